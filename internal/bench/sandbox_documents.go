package bench

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// documents are what was created on a site of the sandbox, by doctype, newest first.
type documents map[string][]document

// document is one of them as Frappe's REST API shows it: the fields that came, and
// Frappe's own. The sandbox knows no doctypes, so it takes every field.
type document map[string]any

// The sandbox is no database: so many documents of so many bytes are kept for a site.
const (
	mostDocuments   = 100
	longestDocument = 16 << 10
)

func (f folder) documents(site nexus.SiteName) (documents, error) {
	all, err := read[documents](f.path("documents", string(site)))
	if err != nil || all == nil {
		return documents{}, err
	}
	return *all, nil
}

// create answers POST /api/resource/{doctype} as Frappe does.
func (s *Sandbox) create(w http.ResponseWriter, r *http.Request, site *siteState) {
	if !allowed(w, r, site) {
		return
	}
	fields := document{}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, longestDocument)).Decode(&fields); err != nil || fields == nil {
		refuse(w, http.StatusBadRequest, "ValidationError", fmt.Sprintf("Send one JSON object of at most %d bytes.", longestDocument))
		return
	}
	doctype, now := r.PathValue("doctype"), time.Now().UTC().Format("2006-01-02 15:04:05.000000")
	name, _ := fields["name"].(string)
	if name == "" {
		name = strings.ToLower(rand.Text()[:10])
	}
	for field, value := range map[string]any{"name": name, "doctype": doctype, "owner": site.User.Email, "modified_by": site.User.Email,
		"creation": now, "modified": now, "docstatus": 0, "idx": 0} {
		fields[field] = value
	}
	status, refusal := http.StatusOK, ""
	err := s.folder.locked(site.Site, func() error {
		all, err := s.folder.documents(site.Site)
		if err != nil {
			return err
		}
		count := 0
		for _, some := range all {
			count += len(some)
		}
		there, err := s.folder.site(site.Site)
		switch {
		case err != nil:
			return err
		case there == nil || there.DB != site.DB: // removed since it was read
			status, refusal = http.StatusNotFound, "DoesNotExistError"
		case slices.ContainsFunc(slices.Concat(all[doctype], there.own(doctype)), named(name)):
			status, refusal = http.StatusConflict, "DuplicateEntryError"
		case count >= mostDocuments:
			status, refusal = http.StatusExpectationFailed, "ValidationError"
		default:
			all[doctype] = slices.Insert(all[doctype], 0, fields)
			return write(s.folder.path("documents", string(site.Site)), all)
		}
		return nil
	})
	switch {
	case err != nil:
		http.Error(w, "the sandbox's folder cannot be written", http.StatusInternalServerError)
	case refusal != "":
		refuse(w, status, refusal, fmt.Sprintf("The sandbox keeps %d documents a site, each under a name of its own.", mostDocuments))
	default:
		answer(w, status, map[string]any{"data": fields})
	}
}

func named(name string) func(document) bool {
	return func(d document) bool { return d["name"] == name }
}

// own returns the documents of a doctype that a site has by itself: its admin, and its
// company.
func (s *siteState) own(doctype string) []document {
	switch {
	case doctype == "User" && s.User != nil:
		return []document{{"name": s.User.Email}}
	case doctype == "Company" && s.SetUp != nil:
		c := s.SetUp
		return []document{{"name": c.Name, "doctype": doctype, "company_name": c.Name, "abbr": c.Abbr, "country": c.Country, "default_currency": c.Currency,
			"chart_of_accounts": c.Chart}}
	}
	return nil
}

// kept returns a site's documents of the requested doctype, its own last. Not ok: the request is
// answered, since the key is wrong or the folder cannot be read.
func (s *Sandbox) kept(w http.ResponseWriter, r *http.Request, site *siteState) (some []document, ok bool) {
	if !allowed(w, r, site) {
		return nil, false
	}
	all, err := s.folder.documents(site.Site)
	if err != nil {
		http.Error(w, "the sandbox's folder cannot be read", http.StatusInternalServerError)
	}
	doctype := r.PathValue("doctype")
	return slices.Concat(all[doctype], site.own(doctype)), err == nil
}

// list answers GET /api/resource/{doctype}.
func (s *Sandbox) list(w http.ResponseWriter, r *http.Request, site *siteState) {
	some, ok := s.kept(w, r, site)
	if !ok {
		return
	}
	rows := []map[string]any{}
	for _, d := range some {
		rows = append(rows, map[string]any{"name": d["name"]})
	}
	answer(w, http.StatusOK, map[string]any{"data": rows})
}

// show answers GET /api/resource/{doctype}/{name}.
func (s *Sandbox) show(w http.ResponseWriter, r *http.Request, site *siteState) {
	some, ok := s.kept(w, r, site)
	if !ok {
		return
	}
	i := slices.IndexFunc(some, named(r.PathValue("name")))
	if i < 0 {
		refuse(w, http.StatusNotFound, "DoesNotExistError", "There is no such document.")
		return
	}
	answer(w, http.StatusOK, map[string]any{"data": some[i]})
}

func refuse(w http.ResponseWriter, status int, kind, text string) {
	answer(w, status, map[string]string{"exc_type": kind, "exception": text})
}
