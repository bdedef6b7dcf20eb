//go:build e2e

package e2e

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	nethttp "net/http" // http is taken in this package
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/test/browser"
	"github.com/fairlead-lb/fairlead/test/cluster"
)

// The windows in which the page is looked at.
var (
	desk  = browser.Look{Width: 1280, Height: 900}
	phone = browser.Look{Width: 390, Height: 844, Phone: true}
)

// webPage looks at the web page as those may who look but not touch, in a real browser, after the quickstart's Service is well.
func webPage(t *testing.T, echo *corev1.Service) {
	looker(t, "oncall")
	path, err := lab.Fairlab(t.Context(), "kubeconfig")
	must(t, err)
	at := address(t, echo).Addr()
	var holder string
	eventually(t, 10*time.Second, func() error {
		owner, _, err := lab.OwnerOf(t.Context(), at, nodes)
		holder = owner
		return err
	})
	const hostile = `"><script>document.title='stolen'</script><b onmouseover=x>`
	pending(t, service(t, "default", "hostile", func(s *corev1.Service) {
		s.Annotations = map[string]string{"fairlead.dev/address-pool": hostile}
	}), "UnknownPool")

	base := serving(t, filepath.Join(lab.Bin, "kubectl-fairlead"), "dashboard", "--kubeconfig", strings.TrimSpace(path), "--as", "somebody", "--as-group", "oncall")
	onlyShows(t, base)
	b := chromium(t)
	for name, look := range map[string]browser.Look{"light": desk, "dark": {Width: desk.Width, Height: desk.Height, Dark: true, Calm: true},
		"phone light": phone, "phone dark": {Width: phone.Width, Height: phone.Height, Phone: true, Dark: true}} {
		for page, want := range map[string][]string{
			"":                              {"1 problem", "default/echo", at.String(), holder + " layer 2", "announces", "UnknownPool", hostile},
			"explain?q=default%2Fecho":      {"No step says no.", holder + " was elected", "endpoints are ready"},
			"explain?q=default%2Fhostile":   {"Cause UnknownPool", hostile, "correct the annotation"},
			"explain?q=" + at.String():      {"of Service default/echo"},
			"explain?q=%3Cscript%3E":        {"<script>", "there is no such Service"},
			"?find=" + url.QueryEscape("x"): {"None matches."},
		} {
			looksRight(t, b, name, base+page, look, want)
		}
	}
	byKeyboard(t, b, base, "default/echo")
	for _, complaint := range b.Complaints {
		t.Errorf("the browser complains: %s", complaint)
	}
	belowTheProxy(t, b)
	auditFinds(t, b)
}

// serving starts a program that prints where it serves HTTP, ends it with the test, and returns that with a slash at the end.
func serving(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s %v says %q: %v", program, args, line, err)
	}
	words := strings.Fields(line) // kubectl proxy: Starting to serve on 127.0.0.1:40000
	at := strings.TrimSuffix(strings.TrimPrefix(words[len(words)-1], "http://"), "/")
	return "http://" + at + "/"
}

func chromium(t *testing.T) *browser.Browser {
	t.Helper()
	program := "chromium"
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v: scripts/chromium installs it", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute*cluster.Slow())
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "fairlead-browser-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // not t.TempDir: a process of the browser may still write as it dies
	b, err := browser.Start(ctx, path, dir)
	must(t, err)
	t.Cleanup(b.Close)
	return b
}

// onlyShows asks for what the page must refuse.
func onlyShows(t *testing.T, base string) {
	t.Helper()
	for name, c := range map[string]struct {
		method, host string
		status       int
	}{
		"it is shown":              {nethttp.MethodGet, "", nethttp.StatusOK},
		"nothing is written":       {nethttp.MethodPost, "", nethttp.StatusMethodNotAllowed},
		"nor deleted":              {nethttp.MethodDelete, "", nethttp.StatusMethodNotAllowed},
		"a stranger's name for us": {nethttp.MethodGet, "rebound.example:80", nethttp.StatusMisdirectedRequest},
	} {
		r, err := nethttp.NewRequestWithContext(t.Context(), c.method, base, nil)
		must(t, err)
		r.Host = c.host
		answer, err := nethttp.DefaultClient.Do(r)
		must(t, err)
		_ = answer.Body.Close()
		if answer.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", name, answer.Status, c.status)
		}
		if policy := answer.Header.Get("Content-Security-Policy"); c.status == nethttp.StatusOK && !strings.Contains(policy, "default-src 'none'") {
			t.Errorf("%s: Content-Security-Policy is %q", name, policy)
		}
	}
}

// looksRight opens a page and looks at what is there, keeps a picture where FAIRLEAD_E2E_PICTURES says, and audits it.
func looksRight(t *testing.T, b *browser.Browser, name, at string, look browser.Look, want []string) {
	t.Helper()
	must(t, b.Open(t.Context(), at, look))
	var seen struct {
		Text, Title, Back string
		Scripts           int
	}
	must(t, b.Eval(t.Context(), `({text: document.body.innerText.replace(/\s+/g, " "), title: document.title, scripts: document.querySelectorAll("script, [onmouseover]").length,
		back: getComputedStyle(document.body).backgroundColor})`, &seen))
	for _, text := range want {
		if !strings.Contains(seen.Text, text) {
			t.Errorf("%s, %s: %q is not to be seen in\n%s", name, at, text, seen.Text)
		}
	}
	if seen.Scripts > 0 || strings.Contains(seen.Title, "stolen") {
		t.Errorf("%s, %s: something was injected; %d scripts, title %q", name, at, seen.Scripts, seen.Title)
	}
	var red, green, blue int
	if _, err := fmt.Sscanf(seen.Back, "rgb(%d, %d, %d)", &red, &green, &blue); err != nil || (red+green+blue < 3*128) != look.Dark {
		t.Errorf("%s, %s: the background is %s (%v)", name, at, seen.Back, err)
	}
	problems, err := b.Audit(t.Context())
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s, %s: %s", name, at, p)
	}
	if dir := os.Getenv("FAIRLEAD_E2E_PICTURES"); dir != "" {
		picture, err := b.Screenshot(t.Context())
		must(t, err)
		page := cmp.Or(at[strings.LastIndex(at, "/")+1:], "overview")
		file := strings.NewReplacer(" ", "-", "?", "-", "%", "-", ":", "-").Replace(name + "-" + page)
		must(t, os.WriteFile(filepath.Join(dir, file+".png"), picture, 0o644))
	}
}

// byKeyboard comes from the first page to a Service's with nothing but keys.
func byKeyboard(t *testing.T, b *browser.Browser, base, query string) {
	t.Helper()
	const tab, enter = 9, 13
	must(t, b.Open(t.Context(), base, desk))
	var reached []string
	for !slices.Contains(reached, "q") {
		var now struct {
			Name    string
			Outline float64
		}
		must(t, b.Press(t.Context(), "Tab", tab))
		must(t, b.Eval(t.Context(), `(e => ({name: e.id || e.className || e.textContent, outline: parseFloat(getComputedStyle(e).outlineWidth)}))(document.activeElement)`, &now))
		reached = append(reached, now.Name)
		if now.Outline < 1 || len(reached) > 5 {
			t.Fatalf("with the Tab key one comes to %q; the outline there is %v px wide", reached, now.Outline)
		}
	}
	if reached[0] != "skip" {
		t.Errorf("the first stop of the Tab key is %q, want the way past the head", reached[0])
	}
	must(t, b.Type(t.Context(), query))
	must(t, b.Press(t.Context(), "Enter", enter))
	eventually(t, 20*time.Second, func() error {
		var title string
		err := b.Eval(t.Context(), "document.title", &title)
		if err == nil && !strings.HasPrefix(title, query) {
			err = fmt.Errorf("after the Enter key the page is %q", title)
		}
		return err
	})
}

// belowTheProxy follows a link of the page under the path that the API server's proxy has for it.
func belowTheProxy(t *testing.T, b *browser.Browser) {
	t.Helper()
	var pods corev1.PodList
	must(t, lab.Client.List(t.Context(), &pods))
	i := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool {
		return p.Namespace == "fairlead-system" && p.Labels["app.kubernetes.io/component"] == "controller"
	})
	base := serving(t, filepath.Join(lab.Bin, "fairlab"), "kubectl", "--name", lab.Name, "proxy", "--port=0") +
		"api/v1/namespaces/fairlead-system/pods/http:" + pods.Items[i].Name + ":9382/proxy/"
	must(t, b.Open(t.Context(), base, phone))
	must(t, b.Eval(t.Context(), `setTimeout(() => document.querySelector("tbody a[href^='explain']").click()) && undefined`, nil))
	eventually(t, 20*time.Second, func() error {
		var at string
		err := b.Eval(t.Context(), "location.href", &at)
		if err == nil && !strings.HasPrefix(at, base+"explain?q=") {
			err = fmt.Errorf("the link leads to %s", at)
		}
		return err
	})
	must(t, b.Settle(t.Context()))
	problems, err := b.Audit(t.Context())
	must(t, err)
	if len(problems) > 0 {
		t.Errorf("below the proxy: %q", problems)
	}
}

// auditFinds holds the audit to what it is there for.
func auditFinds(t *testing.T, b *browser.Browser) {
	t.Helper()
	bad := `<title></title><h1>a</h1><h3>b</h3><img src="data:,"><input><table><tr><td>c</table><p style="color:#999">pale</p><div style="width:2000px">wide</div>`
	must(t, b.Open(t.Context(), "data:text/html,"+url.PathEscape(bad), desk))
	problems, err := b.Audit(t.Context())
	must(t, err)
	all := strings.Join(problems, "\n")
	for _, want := range []string{"no language", "no title", "level 3 after one of level 1", "image without a name", "field without a label", "table without a caption", "contrast of 2.", "2008 wide"} {
		if !strings.Contains(all, want) {
			t.Errorf("the audit does not find %q in a bad page:\n%s", want, all)
		}
	}
}
