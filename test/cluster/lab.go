package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/test/probe"
)

// Lab is a running lab. Its methods are safe for concurrent use.
type Lab struct {
	Name   string
	Bin    string // directory that holds fairlab, probe and the rest
	Client client.Client
	Config *rest.Config // of the cluster's administrator, without a limit of requests
}

// Slow is by how much every time limit is stretched, from the environment variable FAIRLAB_SLOW that fairlab obeys as well:
// an emulated machine is up to 16 times slower. It is at least 1.
func Slow() time.Duration {
	n, err := strconv.Atoi(os.Getenv("FAIRLAB_SLOW"))
	if err != nil || n < 1 {
		return 1
	}
	return time.Duration(n)
}

// Start brings the lab up with `fairlab up FLAGS` and connects to its API server.
func Start(ctx context.Context, bin, name string, flags ...string) (*Lab, error) {
	l := &Lab{Name: name, Bin: bin}
	if _, err := l.Fairlab(ctx, append([]string{"up"}, flags...)...); err != nil {
		return nil, err
	}
	return l, l.connect(ctx)
}

// StartAnew is Start after whatever is left of a lab of that name is gone; bin may be relative.
func StartAnew(ctx context.Context, bin, name string, flags ...string) (*Lab, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	if err := (&Lab{Name: name, Bin: bin}).Down(ctx); err != nil {
		return nil, err
	}
	return Start(ctx, bin, name, flags...)
}

func (l *Lab) connect(ctx context.Context) error {
	path, err := l.Fairlab(ctx, "kubeconfig")
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", strings.TrimSpace(path))
	if err != nil {
		return fmt.Errorf("reading kubeconfig of lab %s: %w", l.Name, err)
	}
	config.QPS = -1
	config.WarningHandlerWithContext = rest.NoWarnings{} // kubectl shows them; a test that wants one runs that
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	if err := v1beta1.AddToScheme(scheme); err != nil {
		return err
	}
	l.Config = config
	l.Client, err = client.New(config, client.Options{Scheme: scheme})
	return err
}

// Down stops the lab and removes everything it made.
func (l *Lab) Down(ctx context.Context) error {
	_, err := l.Fairlab(ctx, "down")
	return err
}

// Fairlab runs a fairlab subcommand on this lab and returns its standard output.
func (l *Lab) Fairlab(ctx context.Context, args ...string) (string, error) {
	args = append([]string{args[0], "--name", l.Name}, args[1:]...)
	return output(exec.CommandContext(ctx, filepath.Join(l.Bin, "fairlab"), args...))
}

// Exec runs a command in the namespaces of a member: client, router, control-plane or a node.
func (l *Lab) Exec(ctx context.Context, member string, command ...string) (string, error) {
	return l.Fairlab(ctx, append([]string{"exec", member, "--"}, command...)...)
}

// Apply runs `kubectl apply -f` on a manifest or a directory of manifests.
func (l *Lab) Apply(ctx context.Context, path string) error {
	_, err := l.Fairlab(ctx, "kubectl", "apply", "-f", path)
	return err
}

// HTTP probes http://target/path from the client at the given interval for the given time. An attempt fails after a second,
// stretched by [Slow].
func (l *Lab) HTTP(ctx context.Context, target netip.AddrPort, path string, interval, length time.Duration) (probe.Report, error) {
	var r probe.Report
	return r, l.probe(ctx, &r, "http", target.String(), "-path", path, "-interval", interval.String(), "-for", length.String(), "-timeout", (time.Second * Slow()).String())
}

// Connect probes http://target/path from the client at the given interval until the function that it returns is called, which returns
// the report. That is to be called once. An attempt fails after a second, stretched by [Slow].
func (l *Lab) Connect(ctx context.Context, target netip.AddrPort, path string, interval time.Duration) (stop func() (probe.Report, error), err error) {
	cmd := l.probeCommand(ctx, "http", target.String(), "-path", path, "-interval", interval.String(), "-timeout", (time.Second * Slow()).String(), "-for", "0")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	input, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", strings.Join(cmd.Args, " "), err)
	}
	return func() (r probe.Report, err error) {
		_ = input.Close() // Wait says what became of the program
		if err := cmd.Wait(); err != nil {
			return r, fmt.Errorf("running %s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(errs.String()))
		}
		return r, readReport(out.Bytes(), &r, cmd.Args)
	}, nil
}

// probeCommand is probe in the client's namespaces, to be started.
func (l *Lab) probeCommand(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(l.Bin, "fairlab"), append([]string{"exec", "--name", l.Name, "client", "--", filepath.Join(l.Bin, "probe")}, args...)...)
}

// UDP sends message from new ports to target from the client and reports the answers.
func (l *Lab) UDP(ctx context.Context, target netip.AddrPort, message string, interval, length time.Duration) (probe.Report, error) {
	var r probe.Report
	return r, l.probe(ctx, &r, "udp", target.String(), "-message", message, "-interval", interval.String(), "-for", length.String(), "-timeout", (time.Second * Slow()).String())
}

// WhoHas asks the segment from the client who owns addr for half a second and returns how often each MAC answered.
func (l *Lab) WhoHas(ctx context.Context, addr netip.Addr) (map[string]int, error) {
	macs := map[string]int{}
	return macs, l.probe(ctx, &macs, "arp", addr.String(), "-for", "500ms")
}

func (l *Lab) probe(ctx context.Context, into any, args ...string) error {
	out, err := l.Exec(ctx, "client", append([]string{filepath.Join(l.Bin, "probe")}, args...)...)
	if err != nil {
		return err
	}
	return readReport([]byte(out), into, args)
}

func readReport(text []byte, into any, args []string) error {
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading the report of probe %v: %w", args, err)
	}
	return nil
}

// MACOf returns the hardware address of a member's interface on the segment.
func (l *Lab) MACOf(ctx context.Context, member string) (string, error) {
	out, err := l.Exec(ctx, member, "cat", "/sys/class/net/eth0/address")
	return strings.TrimSpace(out), err
}

// OwnerOf returns the one node that answers ARP for addr, or an error that says who answered instead.
func (l *Lab) OwnerOf(ctx context.Context, addr netip.Addr, nodes []string) (node, mac string, err error) {
	answers, err := l.WhoHas(ctx, addr)
	if err != nil {
		return "", "", err
	}
	if len(answers) != 1 {
		return "", "", fmt.Errorf("%d stations answer ARP for %s, want one: %v", len(answers), addr, answers)
	}
	for mac = range answers {
	}
	for _, node := range nodes {
		if m, err := l.MACOf(ctx, node); err == nil && m == mac {
			return node, mac, nil
		}
	}
	return "", "", fmt.Errorf("the MAC %s that answers for %s belongs to none of %v", mac, addr, nodes)
}

// Until calls check each 100 ms until it returns nil; when the limit (stretched by [Slow]) has passed it returns the last
// error.
func Until(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit*Slow())
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", limit*Slow(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("running %s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()+string(out)))
	}
	return string(out), nil
}
