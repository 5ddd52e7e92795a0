package e2e_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestCountedLinesExist checks that every text that a test counts in a log is one that
// the product writes. A test that expects none would also pass after the line was
// renamed.
func TestCountedLinesExist(t *testing.T) {
	t.Parallel()
	standard := map[string]bool{"level": true, "ERROR": true, "true": true} // slog writes these
	product := sourceOf(t, "../..")
	counted := countedTexts(t)
	if len(counted) < 10 {
		t.Fatalf("only %d counted texts were found: %v", len(counted), counted)
	}
	for text, at := range counted {
		for part := range strings.SplitSeq(text, `":`) { // slog writes a field as "level":"ERROR"
			if part = strings.Trim(part, `"`); !strings.Contains(product, part) && !standard[part] {
				t.Errorf("%s counts %q, which nothing writes", at, text)
			}
		}
	}
}

// sourceOf returns all Go source below a folder except tests.
func sourceOf(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		out.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// countedTexts returns the literal arguments of every call of logs.count in this folder,
// and constants that are used as such, with their positions.
func countedTexts(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	set, files, constants, out := token.NewFileSet(), []*ast.File(nil), map[string]string{}, map[string]string{}
	for _, name := range names {
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Names) == 1 && len(spec.Values) == 1 {
				if text, ok := literal(spec.Values[0]); ok {
					constants[spec.Names[0].Name] = text
				}
			}
			return true
		})
	}
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if method, ok := call.Fun.(*ast.SelectorExpr); !ok || method.Sel.Name != "count" || !isLog(method.X) {
				return true
			}
			for _, arg := range call.Args {
				text, ok := literal(arg)
				if name, isName := arg.(*ast.Ident); !ok && isName {
					text, ok = constants[name.Name], constants[name.Name] != ""
				}
				if ok {
					out[text] = set.Position(call.Pos()).String()
				}
			}
			return true
		})
	}
	return out
}

// isLog reports whether an expression is the log of a process: log, or s.log.
func isLog(x ast.Expr) bool {
	if field, ok := x.(*ast.SelectorExpr); ok {
		return field.Sel.Name == "log"
	}
	name, ok := x.(*ast.Ident)
	return ok && name.Name == "log"
}

func literal(x ast.Expr) (string, bool) {
	lit, ok := x.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}
