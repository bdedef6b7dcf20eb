package cri

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/fairlead-lb/fairlead/lab/container"
)

func TestImageName(t *testing.T) {
	for image, want := range map[string]string{
		"speaker":                       "speaker",
		"fairlead-lb/speaker:dev":       "speaker",
		"registry.example:5000/a/b:1.2": "b",
		"registry.example:5000/a/b":     "b",
		"a/b@sha256:0123":               "b",
		"a/b:1@sha256:0123":             "b",
		"":                              "",
		"a/":                            "",
	} {
		if got := imageName(image); got != want {
			t.Errorf("%q: %q, want %q", image, got, want)
		}
	}
}

func testImages(t *testing.T) *Images {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"agnhost": 0o755, "speaker": 0o755, "notes.txt": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	return NewImages(dir, "/opt/fairlab")
}

func TestFindImage(t *testing.T) {
	images := testImages(t)
	for _, tc := range []struct {
		image, entrypoint, args, target string
	}{
		{"x/agnhost:2.40", "/agnhost", "pause", "/agnhost"},
		{"fairlead-lb/speaker:dev", "/speaker", "", "/speaker"},
		{"busybox", "", "sh", ""},
		{"debian:12", "", "sh", ""},
		{"registry.k8s.io/pause:3.10", "/fairlab pause", "", "/fairlab"},
	} {
		p, err := images.find(tc.image)
		if err != nil {
			t.Error(err)
			continue
		}
		target := ""
		if len(p.mounts) > 0 {
			target = p.mounts[0].Target
		}
		if got := []string{strings.Join(p.entrypoint, " "), strings.Join(p.args, " "), target}; !cmp.Equal(got, []string{tc.entrypoint, tc.args, tc.target}) {
			t.Errorf("%s: %q", tc.image, got)
		}
	}
	for _, image := range []string{"unheard-of:1", "notes.txt", "", "x/.."} {
		_, err := images.find(image)
		if !errors.Is(err, ErrNoImage) {
			t.Errorf("%s: %v", image, err)
			continue
		}
		for _, want := range []string{image, images.binDir, "agnhost", "speaker", "debian"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the message does not name %s: %v", image, want, err)
			}
		}
	}
}

func TestImageStatus(t *testing.T) {
	images := testImages(t)
	ask := func(image string) *runtimeapi.Image {
		t.Helper()
		got, err := images.ImageStatus(t.Context(), &runtimeapi.ImageSpec{Image: image}, false)
		if err != nil {
			t.Fatal(err)
		}
		return got.Image
	}
	byTag := ask("x/agnhost:2")
	if byID := ask(byTag.Id); byID.GetId() != byTag.Id {
		t.Errorf("the id %s resolves to %s", byTag.Id, byID.GetId())
	}
	if pulled, err := images.PullImage(t.Context(), &runtimeapi.ImageSpec{Image: "agnhost"}, nil, nil); err != nil || pulled != byTag.Id {
		t.Errorf("pull: %s, %v", pulled, err)
	}
	if got := ask("unheard-of"); got != nil {
		t.Errorf("unknown image: %v", got)
	}
}

func TestCommandLine(t *testing.T) {
	p := program{entrypoint: []string{"/agnhost"}, args: []string{"pause"}}
	for _, tc := range []struct{ command, args, want string }{
		{"", "", "/agnhost pause"},
		{"", "netexec --http-port=80", "/agnhost netexec --http-port=80"},
		{"sh", "", "sh"},
		{"sh -c", "true", "sh -c true"},
	} {
		got := commandLine(p, &runtimeapi.ContainerConfig{Command: strings.Fields(tc.command), Args: strings.Fields(tc.args)})
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%q %q: %q", tc.command, tc.args, got)
		}
	}
}

func TestEnvironment(t *testing.T) {
	config := &runtimeapi.ContainerConfig{Tty: true, Envs: []*runtimeapi.KeyValue{{Key: "HOME", Value: []byte("/data")}, {Key: "A", Value: []byte("b=c")}}}
	want := []string{"PATH=" + defaultPath, "HOSTNAME=p", "TERM=xterm", "HOME=/data", "A=b=c"}
	if diff := cmp.Diff(want, environment(config, "p", 1)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"PATH=" + defaultPath, "HOME=/root"}, environment(&runtimeapi.ContainerConfig{}, "", 0)); diff != "" {
		t.Error(diff)
	}
}

func TestPlan(t *testing.T) {
	images := testImages(t)
	r := &Runtime{options: Options{Lower: "/lower", Images: images}}
	p, err := images.find("speaker")
	if err != nil {
		t.Fatal(err)
	}
	pause := &exec.Cmd{Process: &os.Process{Pid: 7}}
	pod := &runtimeapi.PodSandboxConfig{Hostname: "p", Linux: &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
		NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}}}
	sc := &runtimeapi.LinuxContainerSecurityContext{
		NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
		RunAsUser:        &runtimeapi.Int64Value{Value: 65532}, SupplementalGroups: []int64{9}, ReadonlyRootfs: true, MaskedPaths: []string{"/proc/kcore"},
		Capabilities: &runtimeapi.Capability{DropCapabilities: []string{"ALL"}},
	}
	c := &containerState{
		dir: "/d", program: p, sandbox: &sandbox{config: pod, pause: pause, dir: "/s"},
		config: &runtimeapi.ContainerConfig{
			Mounts: []*runtimeapi.Mount{{HostPath: "/v", ContainerPath: "/data"}, {HostPath: "/h", ContainerPath: "/etc/hostname", Readonly: true}},
			Linux:  &runtimeapi.LinuxContainerConfig{SecurityContext: sc, Resources: &runtimeapi.LinuxContainerResources{OomScoreAdj: 1000}},
		},
	}
	want := container.Spec{
		Join: []container.Namespace{{Kind: "net", Path: "/proc/7/ns/net"}, {Kind: "uts", Path: "/proc/7/ns/uts"}, {Kind: "ipc", Path: "/proc/7/ns/ipc"}},
		Root: &container.Root{
			Lower: "/lower", Scratch: "/d/root", ReadOnly: true, Masked: []string{"/proc/kcore"},
			Mounts: []container.Mount{
				{Source: images.binDir + "/speaker", Target: "/speaker", ReadOnly: true}, {Source: "/s/resolv.conf", Target: "/etc/resolv.conf"},
				{Source: "/v", Target: "/data"}, {Source: "/h", Target: "/etc/hostname", ReadOnly: true},
			},
		},
		Process: container.Process{
			Args: []string{"/speaker"}, Env: []string{"PATH=" + defaultPath, "HOME=/", "HOSTNAME=p"}, UID: 65532, Groups: []uint32{9}, OOMScoreAdj: 1000,
		},
	}
	got, pidNS, err := r.plan(c)
	if diff := cmp.Diff(want, got); err != nil || pidNS != "" || diff != "" {
		t.Errorf("%q %v %s", pidNS, err, diff)
	}

	sc.Privileged, sc.NamespaceOptions.Pid = true, runtimeapi.NamespaceMode_POD
	pod.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	got, pidNS, err = r.plan(c)
	if err != nil || pidNS != "/proc/7/ns/pid" || len(got.Join) != 1 || got.Root.Masked != nil || got.Process.Capabilities.Bounding == 0 {
		t.Errorf("privileged, host network, shared processes: %q %v %+v", pidNS, err, got)
	}
}

func TestSupported(t *testing.T) {
	node := &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE}}}
	users := &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{UsernsOptions: &runtimeapi.UserNamespace{}}}}
	ports := []*runtimeapi.PortMapping{{ContainerPort: 80}, {HostPort: 8080, ContainerPort: 80}}
	for _, tc := range []struct {
		name, handler, want string
		config              *runtimeapi.PodSandboxConfig
	}{
		{name: "plain", config: &runtimeapi.PodSandboxConfig{}},
		{name: "ports of the node", config: &runtimeapi.PodSandboxConfig{Linux: node, PortMappings: ports}},
		{name: "host port", config: &runtimeapi.PodSandboxConfig{PortMappings: ports}},
		{name: "handler", handler: "kata", config: &runtimeapi.PodSandboxConfig{}, want: `"kata"`},
		{name: "user namespace", config: &runtimeapi.PodSandboxConfig{Linux: users}, want: "user namespaces"},
	} {
		err := supported(tc.config, tc.handler)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestResolvConf(t *testing.T) {
	got := string(resolvConf(&runtimeapi.DNSConfig{Servers: []string{"192.0.2.1", "2001:db8::1"}, Searches: []string{"a", "b"}, Options: []string{"ndots:5"}}))
	if want := "search a b\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions ndots:5\n"; got != want {
		t.Errorf("%q", got)
	}
	if got := resolvConf(nil); len(got) != 0 {
		t.Errorf("without configuration: %q", got)
	}
}

func TestAddresses(t *testing.T) {
	a := newAddresses([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/29"), netip.MustParsePrefix("fd00::/64")})
	take := func() int {
		n, err := a.take()
		if err != nil {
			return 0
		}
		return n
	}
	var got []int
	for range 6 {
		got = append(got, take())
	}
	a.release(3)
	a.release(2)
	got = append(got, take(), take(), take())
	a.release(4)
	got = append(got, take())
	if diff := cmp.Diff([]int{2, 3, 4, 5, 6, 0, 2, 3, 0, 4}, got); diff != "" {
		t.Error(diff)
	}
	a.release(5)
	a.release(4)
	if n := take(); n != 5 {
		t.Errorf("the address that was freed last, %d, is given out again at once", n)
	}
	if got := a.of(6); got[0] != netip.MustParseAddr("10.0.0.6") || got[1] != netip.MustParseAddr("fd00::6") {
		t.Errorf("addresses of 6: %v", got)
	}
	big := newAddresses([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/64")})
	if got := big.of(0x1234); got[0] != netip.MustParseAddr("10.1.18.52") || got[1] != netip.MustParseAddr("fd00::1234") || big.size != 65534 {
		t.Errorf("addresses of 0x1234: %v of %d", got, big.size)
	}
	if tiny := newAddresses([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/31")}); tiny.size != 0 {
		t.Errorf("a /31 has room for %d", tiny.size)
	} else if _, err := tiny.take(); !errors.Is(err, errNoAddress) {
		t.Errorf("a /31: %v", err)
	}
}

func TestStopSignal(t *testing.T) {
	for signal, want := range map[runtimeapi.Signal]syscall.Signal{
		runtimeapi.Signal_RUNTIME_DEFAULT: syscall.SIGTERM, runtimeapi.Signal_SIGUSR1: syscall.SIGUSR1, runtimeapi.Signal_SIGQUIT: syscall.SIGQUIT,
		runtimeapi.Signal_SIGRTMIN: 34, runtimeapi.Signal_SIGRTMINPLUS3: 37, runtimeapi.Signal_SIGRTMAXMINUS14: 50, runtimeapi.Signal_SIGRTMAX: 64,
	} {
		if got := stopSignal(signal); got != want {
			t.Errorf("%s: %d, want %d", signal, got, want)
		}
	}
}

func TestAppendRecord(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	if got, want := string(appendRecord(nil, at, "stdout", []byte("hello"), true)), "2026-01-02T03:04:05.000006+01:00 stdout F hello\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLineWriter(t *testing.T) {
	long := strings.Repeat("x", maxLogLine)
	for _, tc := range []struct {
		name   string
		writes []string
		want   []string
	}{
		{"lines", []string{"a\nb\n"}, []string{"F a", "F b"}},
		{"in pieces", []string{"a", "b\nc", "\n"}, []string{"F ab", "F c"}},
		{"empty line", []string{"\n"}, []string{"F "}},
		{"unfinished", []string{"a\nb"}, []string{"F a", "P b"}},
		{"exactly the limit", []string{long + "\n"}, []string{"F " + long}},
		{"too long", []string{long + "yz\n"}, []string{"P " + long, "F yz"}},
		{"too long in pieces", []string{long, "y", "z\n"}, []string{"P " + long, "F yz"}},
		{"nothing", nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log, err := openLog(filepath.Join(t.TempDir(), "sub", "log"))
			if err != nil {
				t.Fatal(err)
			}
			w := &lineWriter{log: log, stream: "stdout"}
			for _, s := range tc.writes {
				if n, err := w.Write([]byte(s)); err != nil || n != len(s) {
					t.Fatal(n, err)
				}
			}
			if err := w.flush(); err != nil {
				t.Fatal(err)
			}
			log.close()
			data, err := os.ReadFile(log.path)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(string(data)) {
				_, content, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " stdout ")
				got = append(got, content)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzFindImage: no name leads out of the directory of programs.
func FuzzFindImage(f *testing.F) {
	for _, image := range []string{"agnhost", "a/b:1@sha256:0", "../..", "x/../agnhost:1", ":/@", "pause", "a\x00b"} {
		f.Add(image)
	}
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "agnhost"), nil, 0o755); err != nil {
		f.Fatal(err)
	}
	images := NewImages(dir, "/opt/fairlab")
	f.Fuzz(func(t *testing.T, image string) {
		p, err := images.find(image)
		if err == nil && len(p.mounts) > 0 && p.mounts[0].Source != dir+"/agnhost" && p.mounts[0].Source != "/opt/fairlab" {
			t.Errorf("%q leads to %s", image, p.mounts[0].Source)
		}
	})
}

// FuzzLineWriter: the records contain what was written, whole lines or parts of at most the limit.
func FuzzLineWriter(f *testing.F) {
	f.Add("a\nb", "c\n\nd")
	f.Add(strings.Repeat("x", maxLogLine), "y\n")
	f.Fuzz(func(t *testing.T, first, second string) {
		log, err := openLog(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		w := &lineWriter{log: log, stream: "stdout"}
		for _, s := range []string{first, second} {
			if _, err := w.Write([]byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		log.close()
		data, err := os.ReadFile(log.path)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for line := range strings.Lines(string(data)) {
			_, record, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " stdout ")
			got.WriteString(record[2:])
			if len(record)-2 > maxLogLine {
				t.Errorf("a record has %d bytes", len(record)-2)
			}
			if strings.HasPrefix(record, "F ") {
				got.WriteByte('\n')
			}
		}
		if got.String() != first+second {
			t.Errorf("wrote %q, log has %q", first+second, got.String())
		}
	})
}
