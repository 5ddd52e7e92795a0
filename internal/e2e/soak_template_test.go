//go:build service

package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// builder builds templates, cancels some of the builds, and drops former templates while
// they are copied, until no tenant is made any more.
func (k *soak) builder() {
	former := ""
	for n := 0; k.more(); n++ {
		job, err := k.build(fmt.Sprintf("template-%d", n))
		if err != nil {
			k.t.Errorf("template %d: %v", n, err)
			return
		}
		k.promised(job.Id, "template")
		if rand.IntN(4) == 0 {
			pass(rand.N(200 * time.Millisecond))
			if _, err := insist(k, func() (gen.Job, error) { return k.client.Cancel(k.t.Context(), job.Id, operator) }); err != nil && nexus.CodeOf(err) != nexus.Conflict {
				k.t.Errorf("cancel of %s: %v", job.Site, err)
			}
		}
		if k.over(job.Id).State == gen.StateSucceeded {
			if former != "" {
				k.drop(former)
			}
			former = job.Site
		}
		pass(time.Second + rand.N(3*time.Second))
	}
	if former != "" {
		k.drop(former)
	}
}

func (k *soak) build(key string) (job gen.Job, err error) {
	return insist(k, func() (job gen.Job, err error) {
		a := k.call(http.MethodPost, "/templates", `{"template":"plain"}`, "Authorization", "Bearer "+operator, "Idempotency-Key", key, "Content-Type", "application/json")
		switch {
		case a.err != nil || a.status == http.StatusServiceUnavailable:
			return job, &nexus.Error{Code: nexus.Unavailable, Msg: "not now", Err: a.err}
		case a.status != http.StatusAccepted:
			return job, fmt.Errorf("%d %s", a.status, a.body)
		}
		return job, json.Unmarshal(a.body, &job)
	})
}

// drop drops a template. While Redis is away the command fails, and is called again.
func (k *soak) drop(name string) {
	_, err := insist(k, func() (struct{}, error) {
		_, errs, code := k.nexus("", "templates", "drop", name, "--yes")
		if code != 0 && !strings.Contains(errs, "has no template") {
			return struct{}{}, &nexus.Error{Code: nexus.Unavailable, Msg: errs}
		}
		return struct{}{}, nil
	})
	if err != nil {
		k.t.Errorf("%s was not dropped: %v", name, err)
	}
}

// noTemplates checks that nothing is left of a template that was dropped or never finished.
func (k *soak) noTemplates() {
	k.t.Helper()
	for _, part := range []string{"sites", "intent"} {
		entries, err := os.ReadDir(filepath.Join(k.dir, "sandbox", "templates", part))
		if err != nil {
			k.t.Fatal(err)
		}
		for _, e := range entries {
			k.t.Errorf("left of templates: %s/%s", part, e.Name())
		}
	}
}
