//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/test/cluster"
	"github.com/fairlead-lb/fairlead/test/pages"
)

// shell runs the commands of pages as somebody would who has kubectl, helm and the plugin in the PATH, and whose network is the
// lab's: curl runs on the client, nft on the first node, vtysh on the router. It stands in a directory where charts and examples are.
type shell struct {
	dir  string
	env  []string
	done map[string]bool // lines that have run

	ran, kept int // blocks
}

func newShell(t *testing.T) *shell {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	must(t, err)
	s := &shell{dir: t.TempDir(), done: map[string]bool{}}
	for _, name := range []string{"charts", "examples", "bin"} {
		must(t, os.Symlink(filepath.Join(root, name), filepath.Join(s.dir, name)))
	}
	path := t.TempDir()
	fairlab := filepath.Join(lab.Bin, "fairlab") + " "
	in := func(member, program string) string { // by its path: in the lab, too, the PATH begins with this one
		at, err := exec.LookPath(program)
		must(t, err)
		return fairlab + "exec --name " + lab.Name + " " + member + " -- " + at
	}
	for name, command := range map[string]string{
		"kubectl": fairlab + "kubectl --name " + lab.Name, "helm": fairlab + "helm --name " + lab.Name,
		"kubectl-fairlead": filepath.Join(lab.Bin, "kubectl-fairlead"),
		"curl":             in("client", "curl"), "nft": in(nodes[0], "nft"), "vtysh": in("router", "vtysh"),
	} {
		must(t, os.WriteFile(filepath.Join(path, name), []byte("#!/bin/sh\nexec "+command+` "$@"`+"\n"), 0o755))
	}
	s.env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"))
	return s
}

// script runs commands until the first one that fails, and returns what they print.
func (s *shell) script(ctx context.Context, text string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute*cluster.Slow())
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", text)
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w of\n%s\n%s", err, text, out)
	}
	return string(out), err
}

// placeholders are what pages write for what is the reader's own.
var placeholders = strings.NewReplacer("//NODE", "//"+nodeAddr("node-1"), "{ NODES }", "{ "+nodeAddr("node-1")+", "+nodeAddr("node-2")+" }", "NODE", "node-1",
	"NAMESPACE/NAME", "default/echo", "ipaddresspool NAME", "ipaddresspool default", "ADDRESS", "192.0.2.200")

// again reports whether every line has run already, and notes them.
func (s *shell) again(script string) bool {
	all := true
	for line := range strings.Lines(script) {
		all = all && s.done[line]
		s.done[line] = true
	}
	return all
}

// page runs a page's commands. What stands word for word on an earlier page is not run again.
func (s *shell) page(t *testing.T, file string) {
	text, err := os.ReadFile(filepath.Join("..", "..", file))
	must(t, err)
	blocks, err := pages.Blocks(string(text))
	must(t, err)
	ran, kept := 0, 0
	for _, b := range blocks {
		script := placeholders.Replace(b.Script())
		at := fmt.Sprintf("%s:%d", file, b.Line)
		switch {
		case script == "":
			continue
		case b.Why != "":
			kept++
			t.Logf("%s is not run: %s", at, b.Why)
			continue
		case s.again(script):
			t.Logf("%s has run already", at)
			continue
		}
		ran++
		if asks(script) { // the answer may be good in a moment
			eventually(t, 30*time.Second, func() error { _, err := s.script(t.Context(), script); return err })
		} else if _, err := s.script(t.Context(), script); err != nil {
			t.Fatalf("%s: %v", at, err)
		}
	}
	s.ran, s.kept = s.ran+ran, s.kept+kept
	t.Logf("%s: %d blocks with commands ran, %d cannot", file, ran, kept)
}

// asks reports whether commands only ask for something.
func asks(script string) bool {
	return (strings.HasPrefix(script, "kubectl fairlead ") || strings.HasPrefix(script, "curl ")) && !strings.Contains(script, ">")
}

// before is what the commands of a page need that no page before it has made.
var before = map[string]string{
	"docs/bgp.md": "vtysh -c 'configure terminal' -c 'router bgp 64513' -c 'neighbor nodes bfd 3 50 50'",
	"docs/healthchecks.md": `kubectl apply -f - <<EOF
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30123, selector: {app: echo}, ports: [{port: 80, targetPort: 8080}]}
EOF`,
	"docs/migration.md": "kubectl -n fairlead-system delete --all ipaddresspools,l2advertisements,bgpadvertisements,bgppeers,bfdprofiles",
	"docs/security.md":  "nft add table inet filter\nnft 'add chain inet filter input { type filter hook input priority 0; }'",
}

// TestPages runs every command of README, docs and examples, page after page, in one lab: the first page installs Fairlead, that on
// operations removes it, and that on the migration begins with a MetalLB.
func TestPages(t *testing.T) {
	bareLab(t, "pages", 2, []string{"--kube-proxy", "nftables", "--router", "frr"}, func(t *testing.T) {
		s := newShell(t)
		all := []string{"README.md"}
		for _, pattern := range []string{"docs/*.md", "examples/*.md", "examples/*/*.md"} {
			files, err := filepath.Glob(filepath.Join("..", "..", pattern))
			must(t, err)
			for _, f := range files {
				all = append(all, strings.TrimPrefix(filepath.ToSlash(f), "../../"))
			}
		}
		last := []string{"docs/webhooks.md", "docs/operations.md", "docs/migration.md"} // they take away what others need
		all = append(slices.DeleteFunc(all, func(p string) bool { return slices.Contains(last, p) }), last...)
		for _, file := range all {
			run := s.page
			if file == "docs/migration.md" {
				run = s.takeOver
			}
			ok := t.Run(file, func(t *testing.T) {
				if script := before[file]; script != "" {
					_, err := s.script(t.Context(), script)
					must(t, err)
				}
				run(t, file)
				if file == "README.md" {
					answers(t, at("192.0.2.200"))
				}
			})
			if !ok && file == "README.md" {
				t.FailNow()
			}
		}
		t.Logf("%d blocks with commands ran, %d are marked as ones that cannot", s.ran, s.kept)
	})
}
