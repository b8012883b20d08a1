// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

func newExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export [-o DIR]",
		Short: "Write the whole configuration as YAML",
		Long: "Export writes what `sallyport apply` reads. Without -o it prints one text; with -o it writes\n" +
			"one file for each kind of object into DIR. The same state always gives the same bytes, so the\n" +
			"files can be kept in version control. No access key and no node is in them.",
		Example: "  sallyport export > everything.yaml\n  sallyport export -o conf/",
		Args:    cobra.NoArgs,
	}
	conn := connects(cmd)
	dir := cmd.Flags().StringP("output", "o", "", "directory to write to; made when missing")
	force := cmd.Flags().Bool("force", false, "overwrite files that are there, and remove those of kinds that there are none of")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := conn.client()
		if err != nil {
			return err
		}
		var answer json.RawMessage
		if err := client.Do(cmd.Context(), ownService, ownVersion, "DescribeConfiguration", nil, &answer); err != nil {
			return err
		}
		files, err := cloudapi.ExportFiles(answer)
		if err != nil {
			return err
		}
		if *dir == "" {
			for _, kind := range cloudapi.ConfigurationKinds() {
				if _, err := cmd.OutOrStdout().Write(files[kind+".yaml"]); err != nil {
					return err
				}
			}
			return nil
		}
		if err := writeExport(*dir, files, *force); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s to %s\n", count(len(files), "file"), *dir)
		return err
	}
	return cmd
}

// writeExport puts the files into dir, each whole or not at all.
func writeExport(dir string, files map[string][]byte, force bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, kind := range cloudapi.ConfigurationKinds() {
		path := filepath.Join(dir, kind+".yaml")
		switch _, err := os.Lstat(path); {
		case err == nil && !force:
			return fmt.Errorf("%s exists; --force overwrites it", path)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	for _, kind := range cloudapi.ConfigurationKinds() {
		path := filepath.Join(dir, kind+".yaml")
		content, ok := files[kind+".yaml"]
		if !ok {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err := os.WriteFile(path+".new", content, 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

// applyAnswer is what ApplyConfiguration says.
type applyAnswer struct {
	Revision uint64
	Steps    []applyStep
}

type applyStep struct {
	Verb, Kind, Id, Name, Path string
	Fields                     []string
}

func newApplyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply -f FILE|DIR|-",
		Short: "Bring the configuration to what YAML files say: all of it, or nothing",
		Long: "Apply compares YAML files with what there is, prints each difference and writes all of them as\n" +
			"one revision. Each document is the whole truth about its object: a rule, listener or target\n" +
			"that it does not list goes. Objects without a document are left alone, unless --prune is given.\n" +
			"`sallyport export` shows how the files look. When anything is refused, all of it is told, with file,\n" +
			"line and column, and nothing is written.",
		Example: "  sallyport apply -f conf/ --dry-run\n  sallyport apply -f conf/\n  sallyport export | sallyport apply --endpoint https://other:7780 -f -",
		Args:    cobra.NoArgs,
	}
	conn := connects(cmd)
	sources := cmd.Flags().StringArrayP("file", "f", nil, "file, directory with *.yaml and *.yml files, or - for standard input; may be given several times")
	dryRun := cmd.Flags().Bool("dry-run", false, "print what would change, check all of it, and write nothing")
	prune := cmd.Flags().Bool("prune", false, "delete objects that no file describes")
	keepFlows := cmd.Flags().Bool("keep-flows", false, "let open flows keep their verdict until they are idle, whatever rules change")
	asJSON := cmd.Flags().Bool("json", false, "print the API's answer")
	wait := cmd.Flags().Bool("wait", false, "wait until every node has the change in force")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(*sources) == 0 {
			return usageError{errors.New("say what to apply with -f FILE, -f DIR or -f -")}
		}
		config, err := readConfiguration(cmd.InOrStdin(), *sources)
		if err != nil {
			return err
		}
		params, err := config.JSON(*dryRun, *prune, *keepFlows)
		if err != nil {
			return err
		}
		client, err := conn.client()
		if err != nil {
			return err
		}
		var answer json.RawMessage
		if err := client.Do(cmd.Context(), ownService, ownVersion, "ApplyConfiguration", params, &answer); err != nil {
			return placed(config, err)
		}
		if *asJSON {
			err = printJSON(cmd, answer)
		} else {
			err = printSteps(cmd.OutOrStdout(), config, answer, *dryRun)
		}
		if err != nil || !*wait || *dryRun {
			return err
		}
		nodes, err := waitInForce(cmd.Context(), client)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "in force on %s\n", count(nodes, "node"))
		return err
	}
	return cmd
}

// placed opens an error of the API with the file, line and column it is about.
func placed(config *cloudapi.Configuration, err error) error {
	if refused := (*cloudapi.Error)(nil); errors.As(err, &refused) {
		if len(refused.Faults) > 0 {
			return fmt.Errorf("%s\nnothing was changed", placedFaults(config, refused.Faults))
		}
		if place := config.Place(refused.Message); place != (cloudapi.Place{}) {
			return fmt.Errorf("%v: %w\nnothing was changed", place, err)
		}
	}
	return err
}

// placedFaults are faults with their places, in the order of these, one a line.
func placedFaults(config *cloudapi.Configuration, faults []cloudapi.Fault) string {
	place := func(f cloudapi.Fault) cloudapi.Place { return config.Place(f.Message) }
	slices.SortStableFunc(faults, func(x, y cloudapi.Fault) int {
		p, q := place(x), place(y)
		return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
	})
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.Code + ": " + f.Message
		if at := place(f).String(); at != "" {
			lines[i] = at + ": " + lines[i]
		}
		if on := config.Place(f.DependsOn).String(); on != "" {
			lines[i] += " (" + on + ")"
		}
	}
	return strings.Join(lines, "\n")
}

// readConfiguration reads all sources; its error has all of their faults, in
// their order.
func readConfiguration(in io.Reader, sources []string) (*cloudapi.Configuration, error) {
	config := &cloudapi.Configuration{}
	var faults []error
	for _, source := range sources {
		if source == "-" {
			content, err := io.ReadAll(in)
			if err != nil {
				return nil, err
			}
			faults = append(faults, config.Add("standard input", content))
			continue
		}
		files, err := yamlFiles(source)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			faults = append(faults, config.Add(file, content))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("%w\nnothing was changed", err)
	}
	return config, nil
}

// yamlFiles is a file itself, or the YAML files of a directory, by name.
func yamlFiles(source string) ([]string, error) {
	info, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{source}, nil
	}
	entries, err := os.ReadDir(source)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && (ext == ".yaml" || ext == ".yml") {
			files = append(files, filepath.Join(source, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no file that ends in .yaml or .yml", source)
	}
	return files, nil
}

// printSteps prints the plan: a line for each step, then the sum.
func printSteps(out io.Writer, config *cloudapi.Configuration, raw json.RawMessage, dryRun bool) error {
	var answer applyAnswer
	if err := json.Unmarshal(raw, &answer); err != nil {
		return err
	}
	marks := map[string]string{"create": "+", "change": "~", "delete": "-"}
	sums := map[string]int{}
	var text bytes.Buffer
	for _, s := range answer.Steps {
		sums[s.Verb]++
		fmt.Fprintf(&text, "%s %-6s %-13s %s", cmp.Or(marks[s.Verb], "?"), s.Verb, s.Kind, cmp.Or(s.Name, s.Id))
		if s.Id != "" && s.Name != "" {
			fmt.Fprintf(&text, " (%s)", s.Id)
		}
		if len(s.Fields) > 0 {
			fmt.Fprintf(&text, ": %s", strings.Join(s.Fields, ", "))
		}
		if place := config.Place(s.Path).String(); place != "" {
			fmt.Fprintf(&text, "  [%s]", place)
		}
		text.WriteByte('\n')
	}
	if len(answer.Steps) == 0 {
		fmt.Fprintf(&text, "nothing to do: revision %d says the same\n", answer.Revision)
	} else {
		var parts []string
		for _, verb := range slices.Sorted(maps.Keys(marks)) {
			if sums[verb] > 0 {
				parts = append(parts, fmt.Sprintf("%d to %s", sums[verb], verb))
			}
		}
		end := fmt.Sprintf("; written as revision %d", answer.Revision)
		if dryRun {
			end = "; a dry run, nothing was written"
		}
		fmt.Fprintf(&text, "%s%s\n", strings.Join(parts, ", "), end)
	}
	_, err := out.Write(text.Bytes())
	return err
}
