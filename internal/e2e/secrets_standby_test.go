//go:build service

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// keptCanaries signs up for two sites with a password, of which each gets a standby, and
// checks that these share no secret with each other, with their template and with a standby
// that waits, and that nobody reaches that one. It leaves neither standbys nor a template.
func (s *dockerStack) keptCanaries(password string) (accepted []gen.Accepted, names []string) {
	s.t.Helper()
	from := s.built()
	shelf := s.restocked(3)
	apart := map[string]string{s.dbOf(from): "sites/.nexus/templates/" + from.Site + "/resting_config.json"}
	for _, name := range []string{"kept-one", "kept-two"} {
		a := s.accepted(form(s.t, name, name+"@example.com", password), name+"-key")
		r := s.claimed(a, shelf)
		accepted, names = append(accepted, a), append(names, r.name())
		apart[r.db] = "sites/" + a.Site + "/site_config.json"
	}
	rest := s.shelved(1)[0]
	apart[rest.db] = "sites/.nexus/standby/" + rest.name() + "/resting_config.json"
	s.shareNoSecret(apart)
	s.readOnlyTheirOwn(accepted[0], apart)
	s.reachedByNobody(append(names, rest.name()), accepted[0].Site)
	s.noStandbys()
	if out, errs, code := s.nexus("", "templates", "drop", from.Site, "--yes"); code != 0 {
		s.t.Fatalf("drop: exit %d\n%s%s", code, out, errs)
	}
	return accepted, names
}

// shareNoSecret compares the secrets of databases and of the configs at these paths.
func (s *dockerStack) shareNoSecret(paths map[string]string) {
	s.t.Helper()
	of := map[string]string{}
	for db, path := range paths {
		var config struct {
			Password string `json:"db_password"`
			Key      string `json:"encryption_key"`
		}
		if err := json.Unmarshal([]byte(s.box.Sh(s.t, "cat "+path)), &config); err != nil {
			s.t.Fatalf("%s: %v", path, err)
		}
		hash := s.box.SQL(s.t, "SELECT password FROM "+db+".__Auth WHERE name = 'Administrator'")
		for what, secret := range map[string]string{"password": config.Password, "encryption key": config.Key, "hash of Administrator's password": hash} {
			if secret == "" || of[secret] != "" {
				s.t.Errorf("%s has the %s of %s", path, what, of[secret])
			}
			of[secret] = path
		}
	}
}

// readOnlyTheirOwn tries, as a site's database user, to read the other databases.
func (s *dockerStack) readOnlyTheirOwn(a gen.Accepted, paths map[string]string) {
	s.t.Helper()
	own := s.dbOf(&staged{Accepted: a})
	password := s.box.Password(s.t, nexus.SiteName(a.Site))
	for db := range paths {
		out, ok := s.as(own, password, "SELECT name FROM "+db+".tabUser")
		if ok != (db == own) || !ok && !strings.Contains(out, "denied") {
			s.t.Errorf("the user of %s reads %s: %t\n%s", a.Site, paths[db], ok, out)
		}
	}
}

// reachedByNobody asks for standbys by all names that a request may give a site.
func (s *dockerStack) reachedByNobody(names []string, site string) {
	s.t.Helper()
	for _, name := range names {
		for _, path := range []string{name, ".nexus/standby/" + name, "../sites/.nexus/standby/" + name, site + "/../.nexus/standby/" + name} {
			for _, host := range []string{name, site} {
				request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.sites+"/api/method/ping", nil)
				if err != nil {
					s.t.Fatal(err)
				}
				request.Host = host
				request.Header.Set("X-Frappe-Site-Name", path)
				response, err := http.DefaultClient.Do(request)
				if err != nil {
					s.t.Fatal(err)
				}
				_ = response.Body.Close()
				if response.StatusCode != http.StatusNotFound {
					s.t.Errorf("asked for %s with the header %s: %d", host, path, response.StatusCode)
				}
			}
		}
		if status := s.ping(name); status != http.StatusNotFound {
			s.t.Errorf("%s answers %d", name, status)
		}
	}
}

// nameless checks that nothing that the bench stores tells of a standby that has become a site.
func (s *dockerStack) nameless(seen places, names []string) {
	s.t.Helper()
	for place, text := range seen {
		if !strings.HasPrefix(place, "the bench's") && place != "docker logs" {
			continue
		}
		for _, name := range names {
			for where, around := range (places{place: text}).find(name) {
				s.t.Errorf("the standby's name %s stands in %s: %q", name, where, fmt.Sprint(around))
			}
		}
	}
}
