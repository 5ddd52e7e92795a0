package provisioner_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/nexus-erp/provisioner/"

// allowed says which packages of ours a package may import. A package that is
// not in it, and an edge that is not in it, fail the test: add one on purpose.
var allowed = map[string][]string{
	"":                       {},
	"internal/nexus":         {},
	"internal/store":         {"internal/nexus"},
	"internal/bench":         {"internal/nexus"},
	"internal/bench/standin": {"internal/nexus"},
	"tasks":                  {"internal/nexus"},
	"worker":                 {"internal/nexus", "internal/store", "tasks"},
	"api/gen":                {},
	"api/ui":                 {},
	"api/client":             {"internal/nexus", "api/gen"},
	"api":                    {"internal/nexus", "internal/store", "tasks", "api/gen", "api/ui"},
	"internal/app":           {"internal/nexus", "internal/store", "internal/bench", "tasks", "worker", "api"},
	"cmd/api":                {"internal/app"},
	"cmd/worker":             {"internal/app"},
	"cmd/nexus":              {"internal/app", "internal/nexus", "api/client", "api/gen"},
	"internal/e2e":           {},
	"internal/e2e/benchmark": {"internal/nexus", "internal/app", "api/client", "api/gen"},
}

// foreign says where a dependency that is fenced off may be named.
var foreign = map[string][]string{
	"github.com/hibiken/asynq":            {"internal/store", "worker", "internal/e2e/benchmark"},
	"github.com/hibiken/asynqmon":         {"internal/app"},
	"github.com/labstack/echo":            {"api", "api/gen", "internal/e2e/benchmark"},
	"github.com/docker/docker":            {"internal/bench"},
	"github.com/redis/go-redis":           {"internal/store", "internal/app", "internal/e2e", "internal/e2e/benchmark"},
	"github.com/prometheus/client_golang": {"api", "worker", "internal/app", "cmd/nexus"},
	"github.com/spf13/cobra":              {"cmd/nexus"},
	"github.com/itchyny/gojq":             {"cmd/nexus"},
	"github.com/caarlos0/env":             {"internal/app"},
	"github.com/oapi-codegen/runtime":     {"api/gen"},
	"github.com/alicebob/miniredis/v2":    {"internal/app"},
}

// source is one Go file, parsed.
type source struct {
	path, pkg string
	test      bool
	file      *ast.File
	lines     int
	set       *token.FileSet
}

func sources(t *testing.T, root fs.FS) []source {
	t.Helper()
	var out []source
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (name == "tools" || strings.HasPrefix(name, ".git")) {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, ".gen.go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		pkg := path.Dir(name)
		if pkg == "." {
			pkg = ""
		}
		out = append(out, source{path: name, pkg: pkg, test: strings.HasSuffix(name, "_test.go"), file: file, set: set,
			lines: strings.Count(string(text), "\n")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// edges finds imports the tables do not allow. Tests may import more of ours,
// but a rule's foreign fence holds for them as well where it matters: Echo and
// Docker are named in no test of another room.
func edges(files []source) (wrong []string) {
	asynqFiles := map[string]bool{}
	for _, f := range files {
		rule, known := allowed[f.pkg]
		if !known {
			wrong = append(wrong, f.path+": package "+f.pkg+" is not in the table")
			continue
		}
		for _, spec := range f.file.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			if inner, ours := strings.CutPrefix(name, module); ours {
				if !f.test && !slices.Contains(rule, inner) {
					wrong = append(wrong, f.path+" imports "+inner)
				}
				continue
			}
			if f.pkg == "internal/nexus" && !f.test && strings.Contains(name, ".") {
				wrong = append(wrong, f.path+" imports "+name+"; only the standard library may be")
			}
			for fenced, rooms := range foreign {
				if (name == fenced || strings.HasPrefix(name, fenced+"/")) && !f.test && !slices.Contains(rooms, f.pkg) {
					wrong = append(wrong, f.path+" imports "+name)
				}
			}
			if name == "github.com/hibiken/asynq" && !f.test && !strings.HasPrefix(f.pkg, "internal/e2e") {
				asynqFiles[f.path] = true
			}
		}
	}
	if len(asynqFiles) > 2 { // the store's client and the worker's server
		wrong = append(wrong, fmt.Sprintf("asynq is named in %d files", len(asynqFiles)))
	}
	return wrong
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, w := range edges(sources(t, os.DirFS("."))) {
		t.Error(w)
	}
}

// manners finds what no file of ours may hold.
func manners(files []source) (wrong []string) {
	docs := map[string]string{}
	for _, f := range files {
		if path.Base(f.path) == "doc.go" && f.file.Doc != nil {
			docs[f.pkg] = f.file.Doc.Text()
		}
		ast.Inspect(f.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			on, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			recv, _ := on.X.(*ast.Ident)
			switch name := on.Sel.Name; {
			case recv != nil && recv.Name == "time" && name == "Sleep":
				wrong = append(wrong, f.set.Position(call.Pos()).String()+": time.Sleep")
			case f.test && (name == "SkipNow" || name == "Skipf" || (name == "Skip" && strings.Contains(f.path, "e2e"))):
				wrong = append(wrong, f.set.Position(call.Pos()).String()+": a skipped test")
			}
			return true
		})
	}
	for _, f := range files {
		if f.test || strings.HasPrefix(f.pkg, "cmd/") || f.pkg == "api/ui" || f.pkg == "internal/e2e/benchmark" {
			continue
		}
		if doc := docs[f.pkg]; !strings.Contains(doc, "May import:") || !strings.Contains(doc, "Imported by:") {
			wrong = append(wrong, f.pkg+": doc.go does not say May import: and Imported by:")
			docs[f.pkg] = "May import: Imported by:" // say it once
		}
	}
	return wrong
}

func TestManners(t *testing.T) {
	t.Parallel()
	for _, w := range manners(sources(t, os.DirFS("."))) {
		t.Error(w)
	}
}

// TestFencesBite holds the fences against a tree that breaks each of them.
func TestFencesBite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("worker/a.go", "package worker\nimport _ \""+module+"api\"\nimport _ \"github.com/labstack/echo/v4\"\n")
	write("internal/nexus/b.go", "package nexus\nimport _ \"github.com/google/uuid\"\n")
	write("room/c.go", "package room\n")
	write("tasks/d_test.go", "package tasks\nimport \"time\"\nfunc f() { time.Sleep(1) }\n")
	files := sources(t, os.DirFS(dir))
	if got := edges(files); len(got) != 4 {
		t.Errorf("found %d wrong edges, want 4: %v", len(got), got)
	}
	if got := manners(files); len(got) != 4 { // a sleep, and three rooms without their line
		t.Errorf("found %d breaches, want 4: %v", len(got), got)
	}
}
