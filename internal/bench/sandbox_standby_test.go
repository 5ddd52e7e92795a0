package bench_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// sandboxClaim is a sandbox's folder with a template, a standby of one job, and another job that
// claims it.
type sandboxClaim struct {
	*build
	maker, taker nexus.JobID
	site         string // of the taker
}

func newSandboxClaim(t *testing.T) *sandboxClaim {
	t.Helper()
	s := &sandboxClaim{build: newBuild(t), maker: nexus.NewJobID(), taker: nexus.NewJobID(), site: "acme.localhost"}
	s.frozen(t)
	for _, args := range []nexus.Args{nexus.Clone{Template: "plain"}, nexus.Shelve{}} {
		if result := s.run(t, s.made(args)); !result.Changed {
			t.Fatalf("%s: %+v", args.Op(), result)
		}
	}
	return s
}

// made is an operation of the job that made the standby.
func (s *sandboxClaim) made(args nexus.Args) nexus.Op {
	return nexus.Op{Site: nexus.StandbyName(s.maker), Room: nexus.RoomStandby, DB: s.maker.Database("5a4d"), Owner: s.maker, Gen: 1, Args: args}
}

// take is an operation of the job that claims it, with the standby's database.
func (s *sandboxClaim) take(args nexus.Args) nexus.Op {
	return nexus.Op{Site: nexus.SiteName(s.site), DB: s.maker.Database("5a4d"), Owner: s.taker, Gen: 2, Args: args}
}

func (s *sandboxClaim) claim() nexus.Op {
	return s.take(nexus.Claim{Standby: nexus.StandbyName(s.maker), Maker: s.maker, Plan: nexus.ApplyPlan{Plan: "starter", Users: 3, HostName: "http://acme", Country: "Germany"}})
}

// files are those of sites, standbys and intents, by their path.
func (s *sandboxClaim) files(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, room := range []string{"sites", "intent", "standby/sites", "standby/intent"} {
		entries, err := os.ReadDir(filepath.Join(s.o.Dir, room))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			text, err := os.ReadFile(filepath.Join(s.o.Dir, room, entry.Name()))
			if err != nil {
				t.Fatal(err)
			}
			out[room+"/"+entry.Name()] = string(text)
		}
	}
	return out
}

// put makes these the files.
func (s *sandboxClaim) put(t *testing.T, files map[string]string) {
	t.Helper()
	for path := range s.files(t) {
		if err := os.Remove(filepath.Join(s.o.Dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range files {
		if err := os.WriteFile(filepath.Join(s.o.Dir, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// half is a claim that is ended in its middle.
func (s *sandboxClaim) half(t *testing.T) {
	t.Helper()
	half(t, s.o, s.claim())
}

// killedAt makes the files that a claim leaves whose process was killed before each of its
// changes, from the files before it, in its middle, and after it.
func killedAt(t *testing.T, s *sandboxClaim, n int) {
	t.Helper()
	standby, note, site := "standby/sites/"+string(nexus.StandbyName(s.maker)), "intent/"+s.site, "sites/"+s.site
	before := s.files(t)
	s.half(t)
	half := s.files(t)
	s.run(t, s.claim())
	after := s.files(t)
	if len(before) != 1 || len(half) != 2 || len(after) != 1 || before[standby] == half[standby] || half[note] == "" || after[site] == "" {
		t.Fatalf("%v\n%v\n%v", before, half, after)
	}
	s.put(t, []map[string]string{
		before,
		{standby: before[standby], standby + ".new": "{", note: half[note]},
		{standby: half[standby], note: half[note]},
		{standby: half[standby], note: half[note], site + ".new": "{"},
		{standby: half[standby], note: half[note], site: after[site]},
		{note: half[note], site: after[site]},
		after,
	}[n])
}

// TestSandboxClaimKilled: wherever the process of a claim is killed, the next attempt
// completes it, a drop by either job leaves nothing of that job's, and no other job gets
// what was handed over.
func TestSandboxClaimKilled(t *testing.T) {
	t.Parallel()
	for n, name := range []string{"nothing", "intent", "handed over", "half a file", "site", "standby removed", "done"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handed := n >= 2
			for _, tc := range []struct {
				name string
				do   func(t *testing.T, s *sandboxClaim)
			}{
				{"claimed again", func(t *testing.T, s *sandboxClaim) {
					if result := s.run(t, s.claim()); result.Skipped || result.Changed != (n < 4) {
						t.Errorf("%+v", result)
					}
					if info := s.run(t, s.take(nexus.Inspect{})).Site; info.Job != s.taker || info.DB != s.claim().DB || info.Plan != "starter" || len(info.Apps) != 2 {
						t.Errorf("%+v", info)
					}
					if files := s.files(t); len(files) != 1 || files["sites/"+s.site] == "" {
						t.Errorf("left: %v", files)
					}
				}},
				{"dropped by its owner", func(t *testing.T, s *sandboxClaim) {
					want := 0
					if n == 0 { // the bench does not know that this job wanted it
						want = 1
					}
					if result := s.run(t, s.take(nexus.DropSite{})); result.Changed != (n > 0) {
						t.Errorf("%+v", result)
					}
					if files := s.files(t); len(files) != want {
						t.Errorf("left: %v", files)
					}
				}},
				{"dropped by its maker", func(t *testing.T, s *sandboxClaim) {
					before := s.files(t)
					op := s.made(nexus.DropSite{})
					op.Gen = 2 // the claim's
					if n >= 2 && n <= 4 {
						op.Gen = 9 // this drop has no business with the database, so it does not fence the claim
					}
					s.run(t, op)
					if files := s.files(t); handed && !cmp.Equal(files, before) || !handed && files["standby/sites/"+string(op.Site)] != "" {
						t.Errorf("left: %v, before: %v", files, before)
					}
					if result := s.run(t, s.claim()); result.Skipped == handed {
						t.Errorf("a claim after that: %+v", result)
					}
					if files := s.files(t); handed != (len(files) == 1) || !handed && len(files) > 0 {
						t.Errorf("left: %v", files)
					}
				}},
				{"wanted by another job", func(t *testing.T, s *sandboxClaim) {
					before, op := s.files(t), s.claim()
					op.Site, op.Owner = "other.localhost", nexus.NewJobID()
					if result := s.run(t, op); result.Skipped != handed || result.Changed == handed || handed && len(result.Note) < 10 {
						t.Errorf("%+v", result)
					}
					if files := s.files(t); handed && !cmp.Equal(files, before) {
						t.Errorf("%v, before: %v", files, before)
					}
				}},
				{"begun by another job", func(t *testing.T, s *sandboxClaim) {
					other := *s
					other.taker, other.site = nexus.NewJobID(), "other.localhost"
					if handed {
						return // as above
					}
					other.half(t)
					before := s.files(t)
					delete(before, "intent/"+s.site)
					for _, args := range []nexus.Args{nexus.DropSite{}, s.claim().Args} {
						if result := s.run(t, s.take(args)); result.Skipped != (args.Op() == nexus.OpClaim) {
							t.Errorf("%s: %+v", args.Op(), result)
						}
						if diff := cmp.Diff(before, s.files(t)); diff != "" {
							t.Errorf("%s: %s", args.Op(), diff)
						}
					}
				}},
				{"made by another road", func(t *testing.T, s *sandboxClaim) { // as by a worker that knows no standbys
					if result := s.run(t, s.take(nexus.NewSite{})); result.Changed != (n < 4) {
						t.Errorf("%+v", result)
					}
					if files := s.files(t); n > 0 && len(files) != 1 || files["sites/"+s.site] == "" {
						t.Errorf("left: %v", files)
					}
				}},
				{"listed", func(t *testing.T, s *sandboxClaim) {
					list := s.run(t, s.made(nexus.Standbys{})).Standbys
					if n < 5 && (len(list) != 1 || list[0].Job != s.maker || list[0].DB != s.claim().DB || (list[0].Problem != "") != handed) || n >= 5 && len(list) > 0 {
						t.Errorf("%+v", list)
					}
					var kinds []string
					for _, db := range s.run(t, s.made(nexus.Inventory{})).Inventory.Databases {
						if db.Name == s.claim().DB {
							kinds = append(kinds, db.Kind+" "+string(db.Job))
						}
					}
					want := []string{[]string{"standby ", "standby ", "site ", "site ", " ", " ", " "}[n] + string(map[bool]nexus.JobID{false: s.maker, true: s.taker}[handed])}
					if diff := cmp.Diff(want, kinds); diff != "" {
						t.Error(diff)
					}
				}},
			} {
				t.Run(tc.name, func(t *testing.T) {
					t.Parallel()
					s := newSandboxClaim(t)
					killedAt(t, s, n)
					tc.do(t, s)
				})
			}
		})
	}
}

// TestSandboxClaimMismatch: a standby of other apps than the bench's, or of another version
// of Nexus, is not used, and the list says why. A job that has it already gets an error,
// after which it drops it.
func TestSandboxClaimMismatch(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, says string
		change     func(t *testing.T, s *sandboxClaim)
	}{
		{"a version", "The bench's apps have changed since the standby ", func(_ *testing.T, s *sandboxClaim) { s.o.Apps["frappe"] = "16.1.1" }},
		{"the template's version", " was made by another version of Nexus.", func(t *testing.T, s *sandboxClaim) {
			files := s.files(t)
			for path, text := range files {
				files[path] = strings.Replace(text, version(0), version(1), 1)
			}
			s.put(t, files)
		}},
	} {
		for _, taken := range []bool{false, true} {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				s := newSandboxClaim(t)
				if taken {
					s.half(t)
				}
				tc.change(t, s)
				list := s.run(t, s.made(nexus.Standbys{})).Standbys
				if len(list) != 1 || !taken && !strings.Contains(list[0].Problem, tc.says) {
					t.Errorf("listed: %+v", list)
				}
				result, err := s.try(t, s.claim())
				if taken {
					if nexus.CodeOf(err) != nexus.Internal || !strings.Contains(nexus.MessageOf(err), tc.says) {
						t.Errorf("%v", err)
					}
					s.run(t, s.take(nexus.DropSite{}))
				} else if err != nil || !result.Skipped || result.Changed || !strings.Contains(result.Note, tc.says) {
					t.Errorf("%+v, %v", result, err)
				}
				if files := s.files(t); len(files) != map[bool]int{false: 1, true: 0}[taken] {
					t.Errorf("left: %v", files)
				}
			})
		}
	}
}

// TestSandboxShelveDuringUpgrade: a copy of a template is not shelved with other apps than it
// was made with.
func TestSandboxShelveDuringUpgrade(t *testing.T) {
	t.Parallel()
	s := newSandboxClaim(t)
	s.run(t, s.made(nexus.DropSite{}))
	s.run(t, s.made(nexus.Clone{Template: "plain"}))
	s.o.Apps["erpnext"] = "16.3.0"
	if _, err := s.try(t, s.made(nexus.Shelve{})); nexus.CodeOf(err) != nexus.Conflict {
		t.Errorf("%v", err)
	}
	list := s.run(t, s.made(nexus.Standbys{})).Standbys
	if len(list) != 1 || list[0].Problem != "It is not finished." || list[0].Template != "plain" || list[0].Spec != nexus.TemplatePlain {
		t.Errorf("listed: %+v", list)
	}
}

// TestSandboxClaimOther: a job that claims another standby than it has begun to leaves
// nothing of the former one, and names that are no file's are those of no standby.
func TestSandboxClaimOther(t *testing.T) {
	t.Parallel()
	for _, name := range []nexus.SiteName{"", "-", ".", "..", "../../sites/acme.localhost", "../../templates/sites/plain", "standby-00000000"} {
		s := newSandboxClaim(t)
		s.half(t)
		op := s.claim()
		args, _ := op.Args.(nexus.Claim)
		args.Standby = name
		op.Args = args
		if result := s.run(t, op); !result.Skipped || len(result.Note) < 10 {
			t.Errorf("%q: %+v", name, result)
		}
		if files := s.files(t); len(files) > 0 {
			t.Errorf("%q: left: %v", name, files)
		}
	}
}

// TestSandboxClaimTime: a claim takes a hundredth of the time of a new site, and with
// slow-site five seconds more; a standby is shelved in a twentieth.
func TestSandboxClaimTime(t *testing.T) {
	t.Parallel()
	for email, want := range map[string]time.Duration{"": 200 * time.Millisecond, "slow-site@example.com": 5200 * time.Millisecond} {
		s := newSandboxClaim(t)
		s.o.Delay = 20 * time.Second
		synctest.Test(t, func(t *testing.T) {
			op, began := s.claim(), time.Now()
			op.Email = email
			if result, took := s.run(t, op), time.Since(began); took != want || !result.Changed {
				t.Errorf("it took %s, want %s: %+v", took, want, result)
			}
			s.maker, began = nexus.NewJobID(), time.Now()
			s.run(t, s.made(nexus.Clone{Template: "plain"}))
			if result, took := s.run(t, s.made(nexus.Shelve{})), time.Since(began); took != 2*time.Second || !result.Changed {
				t.Errorf("a standby took %s: %+v", took, result)
			}
		})
	}
}

// TestSandboxCompany: a site keeps as much of the name as Frappe takes, without spaces
// around it.
func TestSandboxCompany(t *testing.T) {
	t.Parallel()
	s := newSandboxClaim(t)
	s.run(t, s.claim())
	for _, tc := range []struct{ name, want string }{
		{" Acme ", "Acme"},
		{"  ", "Acme"}, // none was given
		{strings.Repeat("é", 139) + " Ltd", strings.Repeat("é", 139)},
		{" " + strings.Repeat("é", 140), strings.Repeat("é", 140)},
	} {
		before := s.files(t)
		changed := s.run(t, s.take(nexus.Company{Name: tc.name})).Changed
		after := s.files(t)
		if changed == cmp.Equal(before, after) || !strings.Contains(after["sites/"+s.site], `"Company":"`+tc.want+`"`) {
			t.Errorf("%q: %t, %v", tc.name, changed, after)
		}
	}
}
