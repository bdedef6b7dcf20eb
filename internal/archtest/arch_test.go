package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/fairlead-lb/fairlead/"

// rule is one row of the table of packages.
type rule struct {
	pure    bool     // a decider: no IO, no log, no clock, no Kubernetes
	project []string // packages of this module it may import; a trailing slash allows everything below
	outside []string // modules it may import besides the standard library
}

// kubernetes is what only internal/kube, its callers in cmd and the API types may see.
var kubernetes = []string{"k8s.io/", "sigs.k8s.io/"}

// rules lists every package of the module. A package that is missing here fails the test: decide where it belongs first.
var rules = map[string]rule{
	"lb":       {pure: true},
	"ipam":     {pure: true, project: []string{"lb"}},
	"election": {pure: true, project: []string{"lb"}},
	"announce": {pure: true, project: []string{"lb", "election"}},
	"datapath": {pure: true, project: []string{"lb"}},
	"bfd":      {pure: true},

	"announce/bgp":      {pure: true, project: []string{"lb", "announce"}},
	"announce/bgp/wire": {pure: true, project: []string{"lb", "announce/bgp"}, outside: []string{"github.com/osrg/gobgp/v3/pkg/packet/bgp"}}, // the only one

	"datapath/datapathtest": {project: []string{"lb", "datapath"}},
	"election/keyring":      {pure: true},
	"election/gossip": {project: []string{"lb", "election/keyring"},
		outside: []string{"github.com/hashicorp/", "golang.org/x/sync", "google.golang.org/protobuf/encoding/protowire"}},
	"election/heartbeat":      {project: []string{"lb", "bfd", "bfd/udp", "election/keyring"}, outside: []string{"golang.org/x/sync", "github.com/prometheus/"}},
	"bfd/udp":                 {project: []string{"bfd"}, outside: []string{"golang.org/x/sync", "golang.org/x/sys", "github.com/prometheus/"}},
	"announce/bgp/session":    {project: []string{"lb", "announce/bgp", "announce/bgp/wire"}, outside: []string{"golang.org/x/sync", "golang.org/x/sys"}},
	"announce/bgp/bgptest":    {project: []string{"lb", "announce/bgp", "announce/bgp/wire"}},
	"announce/bgp/liveness":   {project: []string{"lb", "announce/bgp", "bfd", "bfd/udp"}, outside: []string{"golang.org/x/sync", "github.com/prometheus/"}},
	"announce/bgp/unnumbered": {project: []string{"announce/bgp"}, outside: []string{"golang.org/x/net/ipv6", "golang.org/x/sync"}},
	"announce/bgp/process":    {project: []string{"lb", "announce/bgp", "announce/bgp/session"}, outside: []string{"golang.org/x/sync", "golang.org/x/sys"}},
	"announce/neighbour": {project: []string{"lb", "announce"},
		outside: []string{"github.com/mdlayher/", "golang.org/x/net/bpf", "golang.org/x/sync", "golang.org/x/sys", "github.com/prometheus/"}},
	"announce/arp": {project: []string{"lb", "announce/neighbour"}},
	"announce/ndp": {project: []string{"lb", "announce/neighbour"}, outside: []string{"golang.org/x/net/bpf", "golang.org/x/sys"}},
	"datapath/ipvs": {project: []string{"lb", "datapath"},
		outside: []string{"github.com/moby/ipvs", "github.com/vishvananda/netlink", "golang.org/x/sys"}},
	"datapath/nft": {project: []string{"lb", "datapath"},
		outside: []string{"github.com/google/nftables/expr", "github.com/vishvananda/netlink", "golang.org/x/sys"}},
	"datapath/conntrack": {project: []string{"lb", "datapath"},
		outside: []string{"github.com/vishvananda/netlink", "golang.org/x/sys"}},
	"datapath/tunnel": {pure: true, project: []string{"lb", "datapath"}},
	"datapath/tunnel/probe": {project: []string{"lb", "datapath/tunnel", "election/keyring"},
		outside: []string{"golang.org/x/net/", "golang.org/x/sync", "github.com/prometheus/"}},
	"datapath/engine": {project: []string{"datapath", "datapath/ipvs", "datapath/nft", "datapath/link", "datapath/conntrack"}},
	"datapath/link": {project: []string{"lb", "datapath"},
		outside: []string{"github.com/vishvananda/netlink", "golang.org/x/sys"}},

	"healthnodeport": {project: []string{"lb"}},

	"api/v1beta1":         {outside: kubernetes},
	"internal/view":       {pure: true, project: []string{"lb"}},
	"internal/neighbours": {outside: []string{"github.com/mdlayher/"}},
	"internal/manifest":   {pure: true, outside: kubernetes},
	"internal/migrate":    {pure: true, project: []string{"lb", "api/", "internal/manifest"}, outside: kubernetes},
	"docs":                {pure: true},
	"docs/generate":       {outside: kubernetes},
	"internal/explain":    {pure: true, project: []string{"lb", "api/", "announce", "datapath", "docs", "internal/kube", "internal/view"}, outside: kubernetes},
	"internal/survey":     {project: []string{"lb", "internal/explain", "internal/view"}, outside: []string{"golang.org/x/sync"}},
	"internal/page":       {project: []string{"lb", "internal/explain"}},
	"internal/dryrun": {pure: true, project: []string{"lb", "api/", "ipam", "internal/admission", "internal/kube", "internal/manifest"},
		outside: kubernetes},
	"internal/runner":     {},
	"internal/admission":  {pure: true, project: []string{"lb", "api/"}, outside: kubernetes},
	"internal/pki":        {pure: true},
	"internal/webhook":    {project: []string{"api/", "internal/admission", "internal/pki", "internal/kube"}, outside: []string{"github.com/prometheus/"}},
	"internal/kube":       {project: []string{"lb", "api/", "announce/bgp", "internal/admission", "election/keyring"}, outside: append(kubernetes, "github.com/go-logr/logr", "golang.org/x/sys")}, // logr: the type in which controller-runtime takes its logger
	"internal/controller": {project: []string{"lb", "api/", "ipam", "internal/kube", "internal/runner"}, outside: append(kubernetes, "github.com/prometheus/")},
	"internal/speaker": {project: []string{"lb", "healthnodeport", "election", "election/keyring", "announce", "announce/bgp", "datapath", "datapath/tunnel", "internal/kube", "internal/runner", "internal/view"},
		outside: []string{"github.com/prometheus/", "github.com/vishvananda/netlink", "golang.org/x/"}},
	"internal/netlab": {project: []string{"election/keyring", "lb", "announce", "datapath", "election/gossip", "internal/kube", "internal/speaker"},
		outside: []string{"github.com/hashicorp/memberlist", "github.com/prometheus/"}},
	"internal/archtest": {},
}

// free are trees in which only the size rules hold: commands wire everything, tests and the lab use what they need.
var free = []string{"cmd/", "test/", "lab/"}

// larger lists the functions and files that may exceed the limits, each with the reason.
var larger = map[string]string{}

const (
	maxFunction = 60
	maxFile     = 400
	maxMethods  = 5
)

// forbidden are the imports that would make a decider impure.
var forbidden = []string{"net", "net/http", "os", "os/exec", "io/fs", "log", "log/slog", "syscall", "math/rand", "math/rand/v2", "crypto/rand"}

// clocks are the functions of package time that read or wait for the clock.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}

type source struct {
	path string // relative to the root, with slashes
	fset *token.FileSet
	file *ast.File
}

func (s source) dir() string { return filepath.ToSlash(filepath.Dir(s.path)) }
func (s source) lines() int  { return s.fset.File(s.file.Pos()).LineCount() }
func (s source) span(n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}

// sources parses every hand-written Go file of the repository.
func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"bin", "testdata", "node_modules"}, d.Name())) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		if ast.IsGenerated(f) {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		out = append(out, source{filepath.ToSlash(rel), fset, f})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("found only %d Go files: is the test running in the repository?", len(out))
	}
	return out
}

func isFree(dir string) bool {
	return slices.ContainsFunc(free, func(p string) bool { return strings.HasPrefix(dir+"/", p) })
}

func TestImportsFollowTheTable(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t) {
		dir := s.dir()
		if isFree(dir) {
			continue
		}
		r, ok := rules[dir]
		if !ok {
			t.Errorf("%s: package %s is not in the table of archtest; add it with what it may import", s.path, dir)
			continue
		}
		seen[dir] = true
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		for _, imp := range s.file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			if why := r.refuses(dir, path); why != "" {
				t.Errorf("%s imports %s: %s", s.path, path, why)
			}
		}
	}
	for dir := range rules {
		if !seen[dir] && !slices.Contains([]string{"internal/archtest"}, dir) {
			t.Errorf("the table names %s, which does not exist", dir)
		}
	}
}

func (r rule) refuses(dir, path string) string {
	if rest, ours := strings.CutPrefix(path, module); ours {
		if slices.ContainsFunc(r.project, func(p string) bool { return rest == p || strings.HasSuffix(p, "/") && strings.HasPrefix(rest, p) }) {
			return ""
		}
		return fmt.Sprintf("the table does not allow %s -> %s", dir, rest)
	}
	first, _, _ := strings.Cut(path, "/")
	if !strings.Contains(first, ".") {
		if r.pure && slices.Contains(forbidden, path) {
			return "a decider does no IO, keeps no log and rolls no dice"
		}
		return ""
	}
	if slices.ContainsFunc(r.outside, func(p string) bool { return strings.HasPrefix(path+"/", strings.TrimSuffix(p, "/")+"/") }) {
		return ""
	}
	return "the table does not allow this library here"
}

func TestDecidersNeverReadTheClock(t *testing.T) {
	for _, s := range sources(t) {
		if !rules[s.dir()].pure || strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clocks, sel.Sel.Name) {
				t.Errorf("%s: time.%s in a decider; take now as an argument", s.fset.Position(n.Pos()), sel.Sel.Name)
			}
			return true
		})
	}
}

func TestSizes(t *testing.T) {
	used := map[string]bool{}
	report := func(key string, got, limit int) {
		if _, ok := larger[key]; ok {
			used[key] = true
			return
		}
		t.Errorf("%s: %d, the limit is %d", key, got, limit)
	}
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		if n := s.lines(); n > maxFile {
			report(s.path, n, maxFile)
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if got := s.span(n); got > maxFunction {
					report(s.path+":"+n.Name.Name, got, maxFunction)
				}
			case *ast.TypeSpec:
				if it, ok := n.Type.(*ast.InterfaceType); ok && it.Methods.NumFields() > maxMethods {
					report(s.path+":"+n.Name.Name, it.Methods.NumFields(), maxMethods)
				}
			}
			return true
		})
	}
	for key := range larger {
		if !used[key] {
			t.Errorf("the exception for %s is no longer needed: delete it", key)
		}
	}
}

func TestEveryPackageHasDoc(t *testing.T) {
	has := map[string]bool{}
	for _, s := range sources(t) {
		dir := s.dir()
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		has[dir] = has[dir] || filepath.Base(s.path) == "doc.go" && s.file.Doc != nil
	}
	for dir, ok := range has {
		if !ok {
			t.Errorf("package %s has no doc.go with a package comment", dir)
		}
	}
}
