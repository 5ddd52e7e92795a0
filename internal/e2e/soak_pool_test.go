//go:build service

package e2e_test

import (
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// shopkeeper fills and drains the shelf at random, until no tenant is made any more.
func (k *soak) shopkeeper() {
	for k.more() {
		pass(time.Second + rand.N(4*time.Second))
		switch rand.IntN(4) {
		case 0:
			k.shelf("drain", `{}`)
		default:
			k.shelf("fill", `{"members":`+string('2'+rune(rand.IntN(8)))+`,"for":"1m"}`)
		}
	}
}

// shelf asks for a change of the shelf, until there is an answer. Without a shelf there is
// nothing to change.
func (k *soak) shelf(verb, body string) {
	_, err := insist(k, func() (struct{}, error) {
		a := k.call(http.MethodPost, "/benches/sandbox/pool/"+verb, body, "Authorization", "Bearer "+operator)
		if a.err != nil || a.status == http.StatusServiceUnavailable {
			return struct{}{}, &nexus.Error{Code: nexus.Unavailable, Msg: "not now", Err: a.err}
		}
		if a.status != http.StatusOK && a.status != http.StatusNotFound && a.status != http.StatusConflict {
			k.t.Errorf("pool %s: %d %s", verb, a.status, a.body)
		}
		return struct{}{}, nil
	})
	if err != nil {
		k.t.Errorf("pool %s: %v", verb, err)
	}
}

// noShelves has the shelf emptied, and checks that nothing of a standby is left.
func (k *soak) noShelves() {
	k.t.Helper()
	k.shelf("drain", `{}`)
	eventually(k.t, 3*time.Minute, "the shelf is empty", func() bool { return len(k.standbys()) == 0 })
	k.settle()
	k.noShelf()
	k.noStandbyFiles()
	for _, room := range []string{"sites", "intent"} {
		for name := range k.there {
			if _, err := os.Stat(filepath.Join(k.dir, "sandbox", "standby", room, name)); err == nil {
				k.t.Errorf("%s is among the standbys", name)
			}
		}
	}
}
