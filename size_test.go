package provisioner_test

import (
	"go/ast"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestSizes reports the lengths of files and functions, and fails at the hard
// stops: what grows past them must be split, since that is where rot begins.
func TestSizes(t *testing.T) {
	t.Parallel()
	const maxFile, maxTest, maxFunc, maxPackages = 400, 600, 70, 16
	var files, functions []int
	packages := map[string]bool{}
	for _, f := range sources(t, os.DirFS(".")) {
		if f.pkg != "" { // the root holds only the tests that keep the rooms apart
			packages[f.pkg] = true
		}
		limit := maxFile
		if f.test {
			limit = maxTest
		} else {
			files = append(files, f.lines)
		}
		if f.lines > limit {
			t.Errorf("%s has %d lines; split it before %d", f.path, f.lines, limit)
		}
		for _, decl := range f.file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			lines := f.set.Position(fn.End()).Line - f.set.Position(fn.Pos()).Line + 1
			if !f.test {
				functions = append(functions, lines)
			}
			if lines > maxFunc && !f.test {
				t.Errorf("%s: %s has %d lines; split it before %d", f.path, fn.Name.Name, lines, maxFunc)
			}
		}
	}
	if len(packages) > maxPackages {
		t.Errorf("%d packages, more than %d", len(packages), maxPackages)
	}
	t.Logf("files: %s lines; functions: %s lines; %d packages", spread(files), spread(functions), len(packages))
}

// TestOtherSizes holds what is not Go to the same stop.
func TestOtherSizes(t *testing.T) {
	t.Parallel()
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(name, ".git") {
			return fs.SkipDir
		}
		if !slices.Contains([]string{".py", ".js", ".css", ".lua", ".sh", ".html"}, path.Ext(name)) {
			return nil
		}
		text, err := os.ReadFile(name)
		if lines := strings.Count(string(text), "\n"); lines > 400 {
			t.Errorf("%s has %d lines; split it before 400", name, lines)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func spread(all []int) string {
	slices.Sort(all)
	at := func(q float64) string { return strconv.Itoa(all[int(q*float64(len(all)-1))]) }
	return "median " + at(0.5) + ", p90 " + at(0.9) + ", max " + at(1)
}
