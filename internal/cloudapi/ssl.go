// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// The codes that the ssl service publishes for what is wrong with a certificate.
const (
	codeCertificate = "FailedOperation.CertificateInvalid"
	codeMismatch    = "FailedOperation.CertificateMismatch"
	codeNoSuchCert  = "FailedOperation.CertificateNotFound"
	codeCertInUse   = "FailedOperation.DeleteResourceFailed"
)

func codeSSL(k lb.Kind) string {
	switch k {
	case lb.NotFound:
		return codeNoSuchCert
	case lb.InUse:
		return codeCertInUse
	}
	return "InvalidParameterValue"
}

// sslActions lists the part of the ssl service, 2019-12-05, that keeps
// certificates for HTTPS listeners.
func sslActions() []Action {
	return []Action{
		action(serviceSSL, "UploadCertificate", uploadCertificate).typed(`--CertificatePublicKey "$(cat chain.pem)" --CertificatePrivateKey "$(cat key.pem)"`).
			fails("InvalidParameterValue", "MissingParameter", codeCertificate, codeMismatch),
		action(serviceSSL, "DescribeCertificates", describeCertificates),
		action(serviceSSL, "DescribeCertificateDetail", describeCertificateDetail).fails(codeNoSuchCert),
		action(serviceSSL, "ModifyCertificateAlias", modifyCertificateAlias).fails(codeNoSuchCert),
		action(serviceSSL, "ModifyCertificateProject", modifyCertificateProject).fails(codeNoSuchCert),
		action(serviceSSL, "DeleteCertificate", deleteCertificate).fails(codeNoSuchCert, codeCertInUse),
	}
}

type uploadCertificateIn struct {
	CertificatePublicKey  string   `tc:"required"`
	CertificatePrivateKey string   `tc:"required"`
	CertificateType       string   `tc:"only=SVR,enum=SVR|CA"` // "": SVR
	Alias                 string   `tc:"len=200"`
	ProjectId             int64    `tc:"range=0-"`
	Tags                  []clbTag `tc:""`
	Repeatable            *bool    `tc:""` // false: what is there already is answered, and nothing stored
	_                     struct{} `unserved:"CertificateUse KeyPassword"`
}

type uploadCertificateOut struct {
	CertificateId string
	RepeatCertId  *string
}

// uploadCertificate stores a certificate with its private key, which nobody
// can read back.
func uploadCertificate(c *Call, in *uploadCertificateIn) (*uploadCertificateOut, error) {
	var missing []string
	for _, f := range []struct{ name, text string }{{"CertificatePublicKey", in.CertificatePublicKey}, {"CertificatePrivateKey", in.CertificatePrivateKey}} {
		if f.text == "" {
			missing = append(missing, f.name)
		}
	}
	if len(missing) > 0 {
		return nil, refuse(lb.Missing, strings.Join(missing, ", "), "a server's certificate needs its chain and its key", "give both in PEM")
	}
	cert, err := parseCertificate(in.CertificatePublicKey, in.CertificatePrivateKey, c.Now(), "CertificatePublicKey", "CertificatePrivateKey")
	if e := (*lb.Error)(nil); errors.As(err, &e) {
		code := codeCertificate
		if e.Kind == lb.Coexist {
			code = codeMismatch
		}
		return nil, &Error{Code: code, Message: e.Error()}
	}
	if cert.Tags, err = tagsOf(in.Tags); err != nil {
		return nil, err
	}
	cert.Alias, cert.ProjectID = in.Alias, strconv.FormatInt(in.ProjectId, 10)
	out := &uploadCertificateOut{}
	return out, c.Update(func(tx *store.Tx) error {
		*out = uploadCertificateOut{}
		if in.Repeatable != nil && !*in.Repeatable {
			for _, id := range tx.State().Certificates.Sorted() {
				if same := tx.State().Certificates.Get(id); same.Chain == cert.Chain && (!c.narrow() || c.inScope(tx.State(), same)) {
					had := string(id)
					*out = uploadCertificateOut{had, &had}
					return nil
				}
			}
		}
		out.CertificateId = string(c.addCertificate(tx, cert, in.CertificatePrivateKey).ID)
		return nil
	})
}

func findCertificate(st *lb.State, id string) (*lb.Certificate, error) {
	cert := st.Certificates.Get(lb.CertificateID(id))
	if cert == nil {
		return nil, refuse(lb.NotFound, "CertificateId", fmt.Sprintf("there is no certificate %q", clip(id, 40)), "DescribeCertificates lists them")
	}
	return cert, nil
}

type describeCertificatesIn struct {
	Offset          *int64   `tc:"range=0-"`
	Limit           *int64   `tc:"range=1-1000"`
	SearchKey       string   `tc:""` // a part of id, alias or domain
	CertificateType string   `tc:"enum=SVR|CA"`
	ProjectId       *int64   `tc:"range=0-"`
	ExpirationSort  string   `tc:"enum=ASC|DESC"`
	CertIds         []string `tc:""`
	_               struct{} `unserved:"CertificateStatus Deployable Upload Renew FilterSource IsSM FilterExpiring Hostable Tags IsPendingIssue ServiceId"`
}

type describeCertificatesOut struct {
	TotalCount   int
	Certificates []certificateRow
}

// certificateRow is a certificate without its contents.
type certificateRow struct {
	CertificateId, Alias, ProjectId, From, CertificateType, Domain string
	Status                                                         int
	StatusName, CertBeginTime, CertEndTime, InsertTime             string
	SubjectAltName                                                 []string
	IsWildcard, Deployable, RenewAble                              bool
	ProductZhName, OwnerUin, ValidityPeriod                        string // who signed it; the region's only account; months
	BoundResource                                                  []string
	Tags                                                           []clbTag
}

func describeCertificates(c *Call, in *describeCertificatesIn) (*describeCertificatesOut, error) {
	st := c.State()
	var found []*lb.Certificate
	for _, id := range st.Certificates.Sorted() {
		cert := st.Certificates.Get(id)
		text := strings.Join(append([]string{string(id), cert.Alias, cert.Subject}, cert.Names...), "\n")
		if in.CertificateType != "CA" && strings.Contains(text, in.SearchKey) &&
			(in.ProjectId == nil || strconv.FormatInt(*in.ProjectId, 10) == cert.ProjectID) &&
			(len(in.CertIds) == 0 || slices.Contains(in.CertIds, string(id))) {
			found = append(found, cert)
		}
	}
	slices.SortStableFunc(found, func(a, b *lb.Certificate) int {
		switch in.ExpirationSort {
		case "ASC":
			return a.NotAfter.Compare(b.NotAfter)
		case "DESC":
			return b.NotAfter.Compare(a.NotAfter)
		}
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	out := &describeCertificatesOut{TotalCount: len(found)}
	users := shownBy(st)
	for _, cert := range page(found, Paging{in.Offset, in.Limit}) {
		out.Certificates = append(out.Certificates, showCertificateRow(cert, users[cert.ID], c.Now()))
	}
	return out, nil
}

// shownBy lists the load balancers whose listeners show each certificate.
func shownBy(st *lb.State) map[lb.CertificateID][]string {
	users := map[lb.CertificateID][]string{}
	for _, l := range st.Listeners.All() {
		for _, id := range l.Certificates() {
			users[id] = append(users[id], string(l.Balancer))
		}
	}
	for id := range users {
		slices.Sort(users[id])
		users[id] = slices.Compact(users[id])
	}
	return users
}

func showCertificateRow(cert *lb.Certificate, users []string, now time.Time) certificateRow {
	status, name := 1, "issued"
	if now.After(cert.NotAfter) {
		status, name = 3, "expired"
	}
	return certificateRow{
		CertificateId: string(cert.ID), Alias: cert.Alias, ProjectId: cert.ProjectID, From: "upload", CertificateType: "SVR", Domain: domainOf(cert),
		Status: status, StatusName: name, CertBeginTime: stamp(cert.NotBefore), CertEndTime: stamp(cert.NotAfter), InsertTime: stamp(cert.Created),
		SubjectAltName: cert.Names, IsWildcard: strings.HasPrefix(domainOf(cert), "*."), Deployable: status == 1, ProductZhName: cert.Issuer, OwnerUin: ownerUin, ValidityPeriod: months(cert), BoundResource: users, Tags: clbTags(cert.Tags),
	}
}

// ownerUin is whose all certificates are: clients want a number.
const ownerUin = "0"

// months is how long a certificate is valid, in whole months.
func months(cert *lb.Certificate) string {
	const month = 365 * 24 * time.Hour / 12
	return strconv.FormatInt(int64(cert.NotAfter.Sub(cert.NotBefore).Round(month)/month), 10)
}

// domainOf is the name that a certificate goes by: its common name, or the
// first of the others.
func domainOf(cert *lb.Certificate) string {
	if cert.Subject == "" && len(cert.Names) > 0 {
		return cert.Names[0]
	}
	return cert.Subject
}

type certificateIdIn struct {
	CertificateId string `tc:"required"`
}

// describeCertificateOut has the chain. CertificatePrivateKey is always null.
type describeCertificateOut struct {
	CertificateId, Alias, ProjectId, From, CertificateType, Domain string
	Status                                                         int
	StatusName, CertBeginTime, CertEndTime, InsertTime             string
	SubjectAltName                                                 []string
	IsWildcard, Deployable, RenewAble                              bool
	Tags                                                           []clbTag
	CertificatePublicKey, CertFingerprint, ProductZhName           string // ProductZhName: who signed it
	CertificatePrivateKey                                          *string
}

func describeCertificateDetail(c *Call, in *certificateIdIn) (*describeCertificateOut, error) {
	cert, err := findCertificate(c.State(), in.CertificateId)
	if err != nil {
		return nil, err
	}
	r := showCertificateRow(cert, nil, c.Now())
	return &describeCertificateOut{CertificateId: r.CertificateId, Alias: r.Alias, ProjectId: r.ProjectId, From: r.From, CertificateType: r.CertificateType, Domain: r.Domain,
		Status: r.Status, StatusName: r.StatusName, CertBeginTime: r.CertBeginTime, CertEndTime: r.CertEndTime, InsertTime: r.InsertTime,
		SubjectAltName: r.SubjectAltName, IsWildcard: r.IsWildcard, Deployable: r.Deployable, Tags: r.Tags,
		CertificatePublicKey: cert.Chain, CertFingerprint: fingerprint(cert), ProductZhName: cert.Issuer}, nil
}

// fingerprintLength is that of a fingerprint in hexadecimal digits.
const fingerprintLength = 2 * sha1.Size

// fingerprint is the SHA-1 of the certificate itself, as browsers show it.
func fingerprint(cert *lb.Certificate) string {
	block, _ := pem.Decode([]byte(cert.Chain))
	if block == nil {
		return "" // it was parsed before it was stored
	}
	sum := sha1.Sum(block.Bytes)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

type modifyCertificateAliasIn struct {
	CertificateId string `tc:"required"`
	Alias         string `tc:"len=200"`
}

type modifyCertificateAliasOut struct {
	CertificateId string
}

func modifyCertificateAlias(c *Call, in *modifyCertificateAliasIn) (*modifyCertificateAliasOut, error) {
	return &modifyCertificateAliasOut{in.CertificateId}, c.Update(func(tx *store.Tx) error {
		cert, err := findCertificate(tx.State(), in.CertificateId)
		if err != nil {
			return err
		}
		own := *cert
		own.Alias = in.Alias
		tx.PutCertificate(&own)
		return nil
	})
}

type modifyCertificateProjectIn struct {
	CertificateIdList []string `tc:"required,count=1-100"`
	ProjectId         int64    `tc:"required,range=0-9007199254740991"`
}

// modifyCertificateProjectOut has no failed ones: all are moved, or none.
type modifyCertificateProjectOut struct {
	SuccessCertificates, FailCertificates []string
}

func modifyCertificateProject(c *Call, in *modifyCertificateProjectIn) (*modifyCertificateProjectOut, error) {
	return &modifyCertificateProjectOut{SuccessCertificates: in.CertificateIdList}, c.Update(func(tx *store.Tx) error {
		for i, id := range in.CertificateIdList {
			cert, err := findCertificate(tx.State(), id)
			if err != nil {
				return inList(err, "CertificateIdList", i)
			}
			own := *cert
			own.ProjectID = strconv.FormatInt(in.ProjectId, 10)
			tx.PutCertificate(&own)
		}
		return nil
	})
}

type deleteCertificateIn struct {
	CertificateId   string `tc:"required"`
	IsCheckResource bool   `tc:""` // it is always checked whether listeners show it
}

type deleteCertificateOut struct {
	DeleteResult bool
	TaskId       *string
}

// deleteCertificate forgets a certificate that no listener shows.
func deleteCertificate(c *Call, in *deleteCertificateIn) (*deleteCertificateOut, error) {
	return &deleteCertificateOut{DeleteResult: true}, c.Update(func(tx *store.Tx) error {
		cert, err := findCertificate(tx.State(), in.CertificateId)
		if err != nil {
			return err
		}
		if users := tx.Index().Showing(cert.ID); len(users) > 0 {
			return refuse(lb.InUse, "CertificateId", fmt.Sprintf("%s is shown by listener %s", cert.ID, users[0]), "give that another certificate first, with ModifyListener or ModifyDomainAttributes")
		}
		tx.DeleteCertificate(cert.ID)
		return nil
	})
}
