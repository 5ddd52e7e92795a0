package store_test

import (
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// absurd are tokens too far in the future to be genuine, as somebody may have written them
// into the file in which a bench keeps the highest token it has seen.
func (f *fixture) absurd(t testing.TB) []nexus.Gen {
	now, err := f.rdb.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return []nexus.Gen{nexus.Gen(now.Add(nexus.GenAhead + time.Minute).UnixMicro()), 1<<53 - 1, 1 << 53, 1<<53 + 1, math.MaxInt64}
}

// TestMintIsNotPoisoned: an absurd token from a bench is refused with a sentence and changes
// nothing: the run keeps its token, and other jobs get theirs.
func TestMintIsNotPoisoned(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		lease, _ := f.take(t, f.submit(t, submission("a.localhost")).ID)
		for _, seen := range f.absurd(t) {
			before := f.dump(t)
			mine := lease.Gen()
			err := lease.Raise(t.Context(), seen)
			wantCode(t, err, nexus.Conflict)
			_, err = f.MintGen(t.Context(), seen)
			wantCode(t, err, nexus.Conflict)
			if after := f.dump(t); lease.Gen() != mine || after["{nexus}:gen"] != before["{nexus}:gen"] {
				t.Errorf("seen %d: the lease has %d, minted was %s, then %s", seen, lease.Gen(), before["{nexus}:gen"], after["{nexus}:gen"])
			}
		}
		if _, err := lease.Renew(t.Context()); err != nil {
			t.Errorf("it owns its job no more: %v", err)
		}
		now, _ := f.rdb.Time(t.Context()).Result()
		far := nexus.Gen(now.Add(nexus.GenAhead - time.Minute).UnixMicro()) // the latest token that counts as genuine
		if err := lease.Raise(t.Context(), far); err != nil || lease.Gen() <= far {
			t.Fatalf("raised to %d over %d: %v", lease.Gen(), far, err)
		}
		if next, err := f.MintGen(t.Context(), 0); err != nil || next != lease.Gen()+1 {
			t.Errorf("after %d comes %d, %v", lease.Gen(), next, err)
		}
	})
}

// TestPoisonedMintHeals: a registry with an absurd last token, and with jobs that have it,
// recovers by itself: new tokens are from the clock again, and each is different.
func TestPoisonedMintHeals(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"9007199254740991", "9007199254740993", "9223372036854775807", "9223372036854775808", "1e300", "-9e99", "soon", ""} {
		t.Run(bad, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, f *fixture) {
				var seen []nexus.Gen
				for _, site := range []nexus.SiteName{"a.localhost", "b.localhost", "c.localhost"} {
					id := f.submit(t, submission(site)).ID
					f.rdb.Set(t.Context(), "{nexus}:gen", bad, 0)
					if _, err := strconv.ParseFloat(bad, 64); err == nil {
						f.rdb.HSet(t.Context(), "{nexus}:job:"+string(id), "gen", "9223372036854775808")
					}
					lease, _ := f.take(t, id)
					now, _ := f.rdb.Time(t.Context()).Result()
					if !lease.Gen().Plausible(now) || lease.Gen() == 0 {
						t.Errorf("%s got the token %d", site, lease.Gen())
					}
					if _, err := lease.Renew(t.Context()); err != nil {
						t.Error(err)
					}
					seen = append(seen, lease.Gen())
					f.advance(time.Millisecond)
				}
				if seen[0] >= seen[1] || seen[1] >= seen[2] {
					t.Errorf("tokens %v", seen)
				}
			})
		})
	}
}

// TestRaiseIsAskedAgain: a run that lost the answer to a raise may renew its lease, and gets
// the same token when it asks again, until another run takes the job.
func TestRaiseIsAskedAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("a.localhost")).ID
		lease, job := f.take(t, id)
		deaf := store.LeaseAt(f.Store, id, lease.Gen())
		if err := lease.Raise(t.Context(), lease.Gen()+5_000_000); err != nil {
			t.Fatal(err)
		}
		if _, err := deaf.Renew(t.Context()); err != nil {
			t.Errorf("renewed before it knows: %v", err)
		}
		if err := deaf.Raise(t.Context(), lease.Gen()-1); err != nil || deaf.Gen() != lease.Gen() {
			t.Errorf("asked again, it has %d, not %d: %v", deaf.Gen(), lease.Gen(), err)
		}
		former := store.LeaseAt(f.Store, id, job.Gen)
		if err := deaf.GiveUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := former.Renew(t.Context()); nexus.CodeOf(err) != nexus.Fenced {
			t.Errorf("given up, and renewed: %v", err)
		}
		f.tick(t)
		f.take(t, id)
		if _, err := former.Renew(t.Context()); nexus.CodeOf(err) != nexus.Fenced {
			t.Errorf("another's, and renewed: %v", err)
		}
		if err := former.Raise(t.Context(), 0); nexus.CodeOf(err) != nexus.Fenced {
			t.Errorf("another's, and raised: %v", err)
		}
	})
}
