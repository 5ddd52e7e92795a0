package provisioner_test

import (
	"go/ast"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// page is one Markdown file: its text without the blocks of code, its blocks,
// and the anchors of its headings.
type page struct {
	text    string
	blocks  []block
	anchors map[string]bool
}

// block is one block of code, and what stands behind its fence.
type block struct{ info, text string }

var (
	heading = regexp.MustCompile(`^#{1,6} +(.*)$`)
	link    = regexp.MustCompile(`\[[^\]]*\]\(([^)\s]+)\)`)
	plain   = regexp.MustCompile("[^a-z0-9 _-]")
)

// anchor is what GitHub makes of a heading.
func anchor(text string) string {
	text = link.ReplaceAllStringFunc(text, func(s string) string { return s[1:strings.Index(s, "]")] })
	return strings.ReplaceAll(plain.ReplaceAllString(strings.ToLower(text), ""), " ", "-")
}

func readPage(text string) page {
	p := page{anchors: map[string]bool{}}
	var out strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		if info, fence := strings.CutPrefix(strings.TrimSpace(line), "```"); fence {
			if inside = !inside; inside {
				p.blocks = append(p.blocks, block{info: info})
			}
			continue
		}
		if inside {
			p.blocks[len(p.blocks)-1].text += line
			continue
		}
		if found := heading.FindStringSubmatch(strings.TrimSpace(line)); found != nil {
			p.anchors[anchor(found[1])] = true
		}
		out.WriteString(line)
	}
	p.text = out.String()
	return p
}

func pages(t *testing.T) map[string]page {
	t.Helper()
	out := map[string]page{}
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(name, ".git") {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || path.Ext(name) != ".md" {
			return err
		}
		text, err := os.ReadFile(name)
		out[name] = readPage(string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDocsLinks: what a page links to within the repository is there, down to the heading.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	all := pages(t)
	for name, p := range all {
		for _, found := range link.FindAllStringSubmatch(p.text, -1) {
			to, at, _ := strings.Cut(found[1], "#")
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			file := name
			if to != "" {
				file = path.Join(path.Dir(name), to)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s, which is not there", name, found[1])
			} else if other, ok := all[file]; ok && at != "" && !other.anchors[at] {
				t.Errorf("%s links to %s, and %s has no such heading", name, found[1], file)
			}
		}
	}
}

// rows are the lines of tables that begin with a name in code: name → its cells.
func rows(p page) map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(p.text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if name := strings.Trim(cells[0], "`"); len(cells) > 1 && name != cells[0] {
			out[name] = cells
		}
	}
	return out
}

// TestDocsSettings: the quick reference has every setting with its default, and
// no page speaks of a setting that does not exist.
func TestDocsSettings(t *testing.T) {
	t.Parallel()
	all := pages(t)
	table := rows(all["docs/QUICKREF.md"])
	known := map[string]bool{}
	for _, s := range app.Settings() {
		known[s.Name] = true
		cells := table[s.Name]
		switch {
		case len(cells) < 3 || cells[2] == "":
			t.Errorf("docs/QUICKREF.md has no line | `%s` | default | meaning |", s.Name)
		case s.Default != "" && cells[1] != "`"+s.Default+"`":
			t.Errorf("docs/QUICKREF.md: the default of %s is %s there, and `%s` in the code", s.Name, cells[1], s.Default)
		case s.Default == "" && strings.HasPrefix(cells[1], "`"):
			t.Errorf("docs/QUICKREF.md: %s has no default in the code, and %s there", s.Name, cells[1])
		}
	}
	name := regexp.MustCompile(`\bNEXUS_[A-Z_]*[A-Z]\b`)
	for file, p := range all {
		text := p.text
		for _, b := range p.blocks {
			text += b.text
		}
		for _, found := range name.FindAllString(text, -1) {
			if !known[found] && !strings.HasPrefix(found, "NEXUS_TEST_") {
				t.Errorf("%s speaks of %s, which is no setting", file, found)
			}
		}
	}
}

var metric = regexp.MustCompile(`^nexus_[a-z]+(_[a-z]+)*$`)

// metrics are the names that the code registers: texts of that form in the files
// that know Prometheus.
func metrics(files []source) (names []string) {
	for _, f := range files {
		if f.test || !slices.ContainsFunc(f.file.Imports, func(s *ast.ImportSpec) bool {
			return s.Path.Value == `"github.com/prometheus/client_golang/prometheus"`
		}) {
			continue
		}
		ast.Inspect(f.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok {
				if name, err := strconv.Unquote(lit.Value); err == nil && metric.MatchString(name) {
					names = append(names, name)
				}
			}
			return true
		})
	}
	return names
}

// TestDocsMetrics: Operations speaks of every metric, and of no other.
func TestDocsMetrics(t *testing.T) {
	t.Parallel()
	p := pages(t)["docs/OPERATIONS.md"]
	names := metrics(sources(t, os.DirFS(".")))
	if len(names) < 20 {
		t.Fatalf("only %d metrics found in the code: %v", len(names), names)
	}
	for _, name := range names {
		if !regexp.MustCompile("`" + name + "`|(?m)^### " + name + "$").MatchString(p.text) {
			t.Errorf("docs/OPERATIONS.md says nothing of %s", name)
		}
	}
	suffix := regexp.MustCompile(`_(bucket|sum|count)$`)
	for _, b := range p.blocks {
		for _, name := range regexp.MustCompile(`\bnexus_[a-z_]+\b`).FindAllString(b.text, -1) {
			if b.info == "promql" && !slices.Contains(names, name) && !slices.Contains(names, suffix.ReplaceAllString(name, "")) {
				t.Errorf("docs/OPERATIONS.md has an alarm on %s, which no part has", name)
			}
		}
	}
}

// TestDocsSandbox: the manual has each e-mail that makes the sandbox fail, and no other.
func TestDocsSandbox(t *testing.T) {
	t.Parallel()
	code, err := os.ReadFile("internal/bench/sandbox_faults.go")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"slow-site@…": true} // it fails at nothing
	for _, found := range regexp.MustCompile(`(?m)^\t"([a-z]+-[a-z]+)": +\{op:`).FindAllSubmatch(code, -1) {
		want[string(found[1])+"@…"] = true
	}
	for name := range rows(pages(t)["docs/PROBLEMS.md"]) {
		if strings.HasSuffix(name, "@…") && !want[name] {
			t.Errorf("docs/PROBLEMS.md has %s, which the sandbox does not know", name)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("docs/PROBLEMS.md does not have %s", name)
	}
}

// TestDocsProblems: every error code, with each status in the examples of the contract, every
// kind of finding and every reason to wait is explained.
func TestDocsProblems(t *testing.T) {
	t.Parallel()
	all := pages(t)
	for _, code := range nexus.Codes() {
		if !all["docs/PROBLEMS.md"].anchors[string(code)] {
			t.Errorf("docs/PROBLEMS.md has no heading %s, to which problems link", code)
		}
	}
	contract, err := os.ReadFile("api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(all["docs/PROBLEMS.md"].text, "\n## ")
	for _, found := range regexp.MustCompile(`status: (\d+), code: (\w+)`).FindAllStringSubmatch(string(contract), -1) {
		status, code := found[1], found[2]
		for _, section := range sections {
			if strings.HasPrefix(section, code+"\n") && !strings.Contains(sections[0]+section, status) {
				t.Errorf("docs/PROBLEMS.md does not say under %s that its status may be %s", code, status)
			}
		}
	}
	table := rows(all["docs/OPERATIONS.md"])
	for _, kind := range tasks.Troubles() {
		if table[string(kind)] == nil {
			t.Errorf("docs/OPERATIONS.md does not explain the finding %s", kind)
		}
	}
	for _, wait := range []nexus.Wait{nexus.WaitRetry, nexus.WaitCapacity, nexus.WaitBench, nexus.WaitOperator} {
		if table[string(wait)] == nil {
			t.Errorf("docs/OPERATIONS.md does not explain a job that waits for %s", wait)
		}
	}
}

// TestDocsTests: a test that the manual names as the one that holds something is
// there.
func TestDocsTests(t *testing.T) {
	t.Parallel()
	have := map[string]bool{}
	for _, f := range sources(t, os.DirFS(".")) {
		for _, decl := range f.file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && f.test {
				have[fn.Name.Name] = true
			}
		}
	}
	text, err := os.ReadFile("docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`(Test[A-Z]\\w+)`").FindAllSubmatch(text, -1)
	for _, name := range names {
		if !have[string(name[1])] {
			t.Errorf("docs/ARCHITECTURE.md names %s, which is not there", name[1])
		}
	}
	if len(names) < 20 {
		t.Errorf("docs/ARCHITECTURE.md names %d tests only", len(names))
	}
}
