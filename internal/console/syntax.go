// SPDX-License-Identifier: Apache-2.0

package console

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
)

// Directions as pages' addresses write them, and as the API does.
const (
	dirIn  = "in"
	dirOut = "out"
)

func apiDirection(dir string) string {
	if dir == dirOut {
		return "Egress"
	}
	return "Ingress"
}

// A line is a rule as people write it: four texts.
type line struct {
	Source  string // address, CIDR, group or address template; "" is every address of both families
	Service string // "TCP:80,443", "UDP:ALL", "ICMP", "ALL" or a service template
	Policy  string // Allow or Refuse
	Notes   string
}

// policy is the line as the API takes it. What the API can judge it judges.
func (l line) policy() m {
	p := m{"PolicyDescription": strings.TrimSpace(l.Notes)}
	switch source := strings.TrimSpace(l.Source); {
	case source == "" || strings.EqualFold(source, "all"):
	case strings.HasPrefix(source, "sg-"):
		p["SecurityGroupId"] = source
	case strings.HasPrefix(source, "ipm-"):
		p["AddressTemplate"] = m{"AddressId": source}
	case strings.HasPrefix(source, "ipmg-"):
		p["AddressTemplate"] = m{"AddressGroupId": source}
	case strings.Contains(source, ":"):
		p["Ipv6CidrBlock"] = source
	default:
		p["CidrBlock"] = source
	}
	protocol, port, _ := strings.Cut(strings.TrimSpace(l.Service), ":")
	switch {
	case strings.HasPrefix(protocol, "ppm-"):
		p["ServiceTemplate"] = m{"ServiceId": protocol}
	case strings.HasPrefix(protocol, "ppmg-"):
		p["ServiceTemplate"] = m{"ServiceGroupId": protocol}
	case protocol != "":
		p["Protocol"] = strings.TrimSpace(protocol)
	}
	if port != "" {
		p["Port"] = strings.TrimSpace(port)
	}
	switch strings.ToLower(strings.TrimSpace(l.Policy)) {
	case "allow", "accept":
		p["Action"] = "ACCEPT"
	case "refuse", "reject", "drop", "deny":
		p["Action"] = "DROP"
	default:
		p["Action"] = l.Policy
	}
	return p
}

// lineOf is a stored rule as people write it.
func lineOf(r policyRule) line {
	return line{Source: peerOf(r), Service: serviceOf(r), Policy: policyWord(r.Action), Notes: r.PolicyDescription}
}

// A label is a word of a rule's notes that says whose it is or why it is there.
type label struct{ Name, Value string }

// labels takes "owner:alice" and "ticket:OPS-12" out of notes.
func labels(notes string) (rest string, found []label) {
	var words []string
	for word := range strings.FieldsSeq(notes) {
		name, value, _ := strings.Cut(word, ":")
		if (name == "owner" || name == "ticket") && value != "" {
			found = append(found, label{name, value})
		} else {
			words = append(words, word)
		}
	}
	return strings.Join(words, " "), found
}

// Rest is the notes without their labels.
func (l line) Rest() string { rest, _ := labels(l.Notes); return rest }

// Labels are the notes' owner and ticket.
func (l line) Labels() []label { _, found := labels(l.Notes); return found }

func peerOf(r policyRule) string {
	return r.CidrBlock + r.Ipv6CidrBlock + r.SecurityGroupId + r.AddressTemplate.AddressId + r.AddressTemplate.AddressGroupId
}

func serviceOf(r policyRule) string {
	if id := r.ServiceTemplate.ServiceId + r.ServiceTemplate.ServiceGroupId; id != "" {
		return id
	}
	protocol := r.Protocol
	if strings.EqualFold(protocol, "icmpv6") {
		return "ICMPv6"
	}
	protocol = strings.ToUpper(protocol)
	if protocol == "TCP" || protocol == "UDP" {
		return protocol + ":" + r.Port
	}
	return protocol
}

func policyWord(action string) string {
	switch action {
	case "ACCEPT":
		return "Allow"
	case "DROP":
		return "Refuse"
	}
	return action
}

// stored is a rule in the form in which it goes back to the API unchanged.
func stored(r policyRule) m {
	p := m{"Action": r.Action, "Protocol": r.Protocol, "Port": r.Port, "PolicyDescription": r.PolicyDescription,
		"AddressTemplate": r.AddressTemplate, "ServiceTemplate": r.ServiceTemplate}
	for name, text := range map[string]string{"CidrBlock": r.CidrBlock, "Ipv6CidrBlock": r.Ipv6CidrBlock, "SecurityGroupId": r.SecurityGroupId} {
		if text != "" {
			p[name] = text
		}
	}
	return p
}

// lineField is where a fault of an API field stands in a line.
func lineField(field string) string {
	switch field[strings.LastIndexByte(field, '.')+1:] {
	case "CidrBlock", "Ipv6CidrBlock", "SecurityGroupId", "AddressTemplate", "AddressId", "AddressGroupId":
		return "Source"
	case "Protocol", "Port", "ServiceTemplate", "ServiceId", "ServiceGroupId":
		return "Service"
	case "Action":
		return "Policy"
	case "PolicyDescription":
		return "Notes"
	}
	return ""
}

// lineColumn is lineField as a file's header calls it.
func lineColumn(field string) string {
	part := lineField(field)
	if part == "Service" {
		return csvHeader[1]
	}
	return part
}

var csvHeader = [4]string{"Source", "Protocol port", "Policy", "Notes"}

// writeCSV writes lines for spreadsheets. A text that a spreadsheet would run
// as a formula gets a quote in front, which readCSV takes away again.
func writeCSV(w io.Writer, lines []line) error {
	out := csv.NewWriter(w)
	if err := out.Write(csvHeader[:]); err != nil {
		return err
	}
	for _, l := range lines {
		row := []string{l.Source, l.Service, l.Policy, l.Notes}
		for i := range row {
			if row[i] != "" && strings.ContainsRune("=+-@\t\r", rune(row[i][0])) {
				row[i] = "'" + row[i]
			}
		}
		if err := out.Write(row); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// readCSV reads what writeCSV writes; the header may be missing.
func readCSV(text string) ([]line, error) {
	in := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\ufeff")))
	in.FieldsPerRecord = -1
	in.TrimLeadingSpace = true
	var lines []line
	for {
		row, err := in.Read()
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return nil, fmt.Errorf("this is not CSV: %w", err)
		}
		number, _ := in.FieldPos(0)
		if len(lines) == 0 && len(row) > 0 && strings.EqualFold(row[0], csvHeader[0]) {
			continue
		}
		if len(row) < 3 || len(row) > 4 {
			return nil, fmt.Errorf("line %d has %d columns; the columns are %s", number, len(row), strings.Join(csvHeader[:], ", "))
		}
		for i := range row {
			if len(row[i]) > 1 && row[i][0] == '\'' && strings.ContainsRune("=+-@\t\r", rune(row[i][1])) {
				row[i] = row[i][1:]
			}
		}
		lines = append(lines, line{row[0], row[1], row[2], strings.Join(row[3:], "")})
	}
}

// A ruleType fills the service of a new rule.
type ruleType struct{ Name, Service string }

func ruleTypes() []ruleType {
	return []ruleType{{"Custom", ""}, {"HTTP (80)", "TCP:80"}, {"HTTPS (443)", "TCP:443"}, {"Linux login (22)", "TCP:22"},
		{"Windows login (3389)", "TCP:3389"}, {"Ping", "ICMP"}, {"MySQL (3306)", "TCP:3306"}, {"SQL Server (1433)", "TCP:1433"}}
}

// A groupTemplate is what a new group begins with.
type groupTemplate struct {
	Id, Title, Text string
	In, Out         []line
}

func groupTemplates() []groupTemplate {
	all := []line{{"", "ALL", "Allow", ""}}
	return []groupTemplate{
		{"open", "Open all ports", "Allows everything from everywhere, public and private. Use it where something else guards.", all, all},
		{"common", "Open ports 22, 80, 443, 3389 and ICMP", "Allows login, web and ping from everywhere, and everything from private networks.", []line{
			{"", "tcp:3389", "Allow", "Windows remote login"},
			{"", "tcp:22", "Allow", "Linux SSH login"},
			{"", "tcp:80,443", "Allow", "web service ports"},
			{"", "icmp", "Allow", "ping"},
			{"10.0.0.0/8", "ALL", "Allow", "private network"},
			{"172.16.0.0/12", "ALL", "Allow", "private network"},
			{"192.168.0.0/16", "ALL", "Allow", "private network"},
		}, all},
		{"custom", "Custom", "Begins empty and refuses everything, both ways, until you add rules.", nil, nil},
	}
}

// openLines are what "one-click open" allows.
func openLines() []line {
	return []line{{"", "ICMP", "Allow", "one-click open"}, {"", "TCP:20,21,22,80,443,3389", "Allow", "one-click open"}}
}
