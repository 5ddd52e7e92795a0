package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// siteState is one site of the sandbox, as stored.
type siteState struct {
	Site    nexus.SiteName
	DB      string
	Job     nexus.JobID
	Install nexus.InstallID
	Made    bool // false: left by an operation that did not finish
	State   string
	Gen     nexus.Gen `json:",omitempty"` // Submitted of the job of the last mark
	MadeAt  time.Time
	Apps    []string
	User    *userState
	Plan    nexus.ApplyPlan
	Company string      `json:",omitempty"` // its name, or what the set-up wizard is to suggest
	SetUp   *company    `json:",omitempty"` // nil: nobody has done the set-up wizard
	Adopted bool        `json:",omitempty"` // made by other means
	Kept    *keptKey    `json:",omitempty"`
	Frozen  *frozen     `json:",omitempty"` // of a template; nil: it is not frozen
	MadeOf  []string    `json:",omitempty"` // of a template: the bench's apps when it was made; see fingerprint
	Copy    bool        `json:",omitempty"` // it was copied from a template, or claimed
	Copied  *copied     `json:",omitempty"` // of a standby: what it was copied from
	Shelved bool        `json:",omitempty"` // of a standby
	Warm    bool        `json:",omitempty"` // of a standby
	Maker   nexus.JobID `json:",omitempty"` // of a standby that was handed over: the job that made it
}

// userState is the admin user, with digests of password, key and secret.
type userState struct {
	Email, FullName, Salt, Password string
	Roles                           []string
	pair
}

type pair struct{ Key, Secret string }

func newUser(args nexus.EnsureUser) *userState {
	salt := rand.Text()
	return &userState{Email: args.Email, FullName: args.FullName, Salt: salt,
		Password: digest(salt + args.Password.Reveal()), Roles: args.Roles}
}

func (u *userState) password(p nexus.Secret) bool { return u.Password == digest(u.Salt+p.Reveal()) }

// holds reports, in constant time, whether a pair is this user's.
func (u *userState) holds(key, secret string) bool {
	return u != nil && u.Key != "" &&
		subtle.ConstantTimeCompare([]byte(u.Key+u.Secret), []byte(digest(key)+digest(secret))) == 1
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (s *siteState) info() nexus.SiteInfo {
	info := nexus.SiteInfo{Site: s.Site, Folder: true, DB: s.DB, Database: true, Install: s.Install, Job: s.Job,
		State: s.State, StateGen: s.Gen, MadeAt: s.MadeAt, Apps: s.Apps, Plan: s.Plan.Plan, Adopted: s.Adopted}
	if s.User != nil {
		info.Users = 1
	}
	return info
}

// database is the site's entry in the register.
func (s *siteState) database(kind string) nexus.DatabaseInfo {
	return nexus.DatabaseInfo{Name: s.DB, Job: s.Job, Exists: true, Users: 1, Comment: "nexus job=" + string(s.Job), Adopted: s.Adopted, Kind: kind}
}

// folder is the sandbox's state on disk: a small file for each object, replaced by
// rename, and a lock for each site. Nothing is synced to disk: a sandbox is disposable.
type folder struct {
	root   string
	fences string // one folder for all rooms, since a database has one fence
}

func newFolder(root string) folder { return folder{root, filepath.Join(root, "fence")} }

// room returns the folder of the sites in a room, which is below the one of served sites.
func (f folder) room(name nexus.Room) folder {
	if name == "" {
		return f
	}
	return folder{f.path(string(name)), f.fences}
}

func (f folder) make() error {
	for _, name := range []string{"sites", "documents", "intent", "fence", "locks", "faults", "templates/sites", "templates/intent", "templates/locks",
		"standby/sites", "standby/intent", "standby/locks"} {
		if err := os.MkdirAll(filepath.Join(f.root, name), 0o700); err != nil {
			return err
		}
	}
	return nil
}

func (f folder) path(parts ...string) string {
	return f.root + "/" + strings.Join(parts, "/")
}

// locked runs a short function under a site's lock, which holds across processes.
func (f folder) locked(site nexus.SiteName, do func() error) error {
	fd, err := openLocked(f.path("locks", string(site)))
	if err != nil {
		return broken(err)
	}
	defer unix.Close(fd) //nolint:errcheck // closing unlocks
	return do()
}

func (f folder) site(name nexus.SiteName) (*siteState, error) {
	return read[siteState](f.path("sites", string(name)))
}

func (f folder) saveSite(s *siteState) error { return write(f.path("sites", string(s.Site)), s) }

func (f folder) removeSite(name nexus.SiteName) error {
	if err := remove(f.path("documents", string(name))); err != nil {
		return err
	}
	return remove(f.path("sites", string(name)))
}

// intent is an intent as stored.
type intent struct {
	nexus.Intent
	Standby nexus.SiteName `json:"standby,omitempty"` // that the job began to claim
	Maker   nexus.JobID    `json:"maker,omitempty"`   // of that standby
}

func (f folder) intent(site nexus.SiteName) (*intent, error) {
	return read[intent](f.path("intent", string(site)))
}

func (f folder) saveIntent(i intent) error { return write(f.path("intent", string(i.Site)), i) }

func (f folder) removeIntent(site nexus.SiteName) error {
	return remove(f.path("intent", string(site)))
}

func (f folder) install() (nexus.InstallID, error) {
	id, err := read[nexus.InstallID](f.path("install"))
	if err != nil || id == nil {
		return "", err
	}
	return *id, nil
}

func (f folder) setInstall(id nexus.InstallID) error { return write(f.path("install"), id) }

// fence returns the highest fencing token seen for a database and, if raise is set, keeps
// gen if that is higher. The file's own lock covers both: a database can be reached under two
// names, a standby's and a tenant's. It is kept when the database is dropped, so that a late
// operation is still refused.
func (f folder) fence(db string, gen nexus.Gen, raise bool) (seen nexus.Gen, err error) {
	path := f.fences + "/" + db
	fd, err := openLocked(path)
	if err != nil {
		return 0, broken(err)
	}
	defer unix.Close(fd) //nolint:errcheck // closing unlocks
	var buf [32]byte
	text, err := readAll(fd, path, buf[:])
	if err != nil {
		return 0, broken(err)
	}
	if len(text) > 0 { // else it is new, or its writer was killed
		kept, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return 0, broken(err)
		}
		seen = plausibleGen(nexus.Gen(kept))
	}
	if !raise || gen <= seen {
		return seen, nil
	}
	if err := writeOver(fd, path, strconv.AppendInt(nil, int64(gen), 10), len(text)); err != nil {
		return 0, broken(err)
	}
	return seen, nil
}

func (f folder) list(kind string) ([]string, error) {
	entries, err := os.ReadDir(f.path(kind))
	if err != nil {
		return nil, broken(err)
	}
	var names []string
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".new") {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

func read[T any](path string) (*T, error) {
	text, err := readFile(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nil: there is no such site
	}
	if err != nil {
		return nil, broken(err)
	}
	value := new(T)
	if err := json.Unmarshal(text, value); err != nil {
		return nil, broken(fmt.Errorf("%s: %w", path, err))
	}
	return value, nil
}

func write(path string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return broken(err)
	}
	return replace(path, text)
}

func (s *Sandbox) inspect(op nexus.Op) (nexus.Result, error) {
	info, room := nexus.SiteInfo{Site: op.Site}, s.folder.room(op.Room)
	site, err := room.site(op.Site)
	if err != nil {
		return nexus.Result{}, err
	}
	if site != nil {
		info = site.info()
		if site.User != nil {
			info.Email = site.User.Email
		}
		return nexus.Result{Site: &info}, nil
	}
	intent, err := room.intent(op.Site)
	if intent != nil {
		info.Job = intent.Job
	}
	return nexus.Result{Site: &info}, err
}

func (s *Sandbox) inventory(args nexus.Inventory) (nexus.Result, error) {
	out := &nexus.InventoryResult{}
	if args.After != "" { // there is only one page
		return nexus.Result{Inventory: out}, nil
	}
	sites, err := s.folder.list("sites")
	if err != nil {
		return nexus.Result{}, err
	}
	for _, name := range sites {
		site, err := s.folder.site(nexus.SiteName(name))
		if err != nil {
			return nexus.Result{}, err
		}
		if site != nil {
			out.Sites = append(out.Sites, site.info())
		}
		if site != nil && site.Job != "" && site.Install == s.o.Install {
			out.Databases = append(out.Databases, site.database(""))
		}
	}
	if err := s.addRooms(out); err != nil {
		return nexus.Result{}, err
	}
	intents, err := s.folder.list("intent")
	for _, name := range intents {
		if intent, _ := s.folder.intent(nexus.SiteName(name)); intent != nil {
			out.Intents = append(out.Intents, intent.Intent)
		}
	}
	return nexus.Result{Inventory: out}, err
}

// broken is the error of a folder that cannot be used: an outage of the whole bench
// before the operation began, like a full disk on a real one.
func broken(err error) error {
	msg := "The sandbox's folder cannot be used just now."
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		msg = "The sandbox's disk is full."
	}
	return &nexus.Error{Code: nexus.Unavailable, Op: "sandbox.folder", Wait: nexus.WaitBench, Unbegun: true, RetryAfter: outagePause, Msg: msg, Err: err}
}

// problems tries to write a file, as every operation needs to.
func (f folder) problems() []nexus.Problem {
	path := f.path("probe")
	err := writeFile(path, make([]byte, 64<<10)) // not with a rename: another process may remove the file at once
	if err != nil {
		err = broken(err)
	}
	if err = errors.Join(err, remove(path)); err == nil {
		return nil
	}
	return []nexus.Problem{{What: fmt.Sprintf("%s (%v)", nexus.MessageOf(err), err), Mend: "Make room for the folder NEXUS_SANDBOX_DIR, and let this user write it: " + f.root}}
}

func fail(code nexus.Code, op nexus.OpName, format string, args ...any) error {
	return &nexus.Error{Code: code, Op: "bench." + string(op), Msg: fmt.Sprintf(format, args...)}
}

func foreign(op nexus.Op) error {
	return fail(nexus.Conflict, op.Args.Op(), "The site %s on this bench was not made by this job; it was left alone.", op.Site)
}

// ended is the error of an operation whose context ended.
func ended(ctx context.Context, op nexus.Op) error {
	code, cause := nexus.CodeCanceled, context.Cause(ctx)
	if errors.Is(cause, nexus.ErrStepTimeout) || errors.Is(cause, context.DeadlineExceeded) {
		code = nexus.Timeout
	}
	return &nexus.Error{Code: code, Op: "bench." + string(op.Args.Op()), Msg: "The operation was ended before it was done.", Err: cause}
}
