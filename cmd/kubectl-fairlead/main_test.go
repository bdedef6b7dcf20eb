package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	theirPool = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: p, namespace: metallb-system}\nspec: {addresses: [192.0.2.0/31]}\n"
	ourPool   = "apiVersion: fairlead.dev/v1beta1\nkind: IPAddressPool\nmetadata: {name: p, namespace: fairlead-system}\nspec: {addresses: [192.0.2.0/31]}\n"
	ourLayer2 = "apiVersion: fairlead.dev/v1beta1\nkind: L2Advertisement\nmetadata: {name: l, namespace: fairlead-system}\n"
	web       = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {type: LoadBalancer, ports: [{port: 80}]}\n"
	hasOne    = "status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}\n"
)

// call runs the command line with files of the given content in the working directory.
func call(t *testing.T, files map[string]string, stdin string, args ...string) (code int, out, errs string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	var o, e bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &o, &e)
	return code, o.String(), e.String()
}

func TestCommands(t *testing.T) {
	files := map[string]string{"theirs.yaml": theirPool, "ours.yaml": ourPool + "---\n" + ourLayer2, "pool.yaml": ourPool, "web.yaml": web, "hasOne.yaml": web + hasOne,
		"bad.yaml": strings.Replace(ourPool, "addresses", "adresses", 1), "broken.yaml": "{{ x }}", "echo.yaml": strings.Replace(theirPool, "spec:", "extra: {}\nspec:", 1),
		"taken.yaml": web + strings.TrimSuffix(strings.Replace(hasOne, "192.0.2.1", "198.51.100.1", 1), "}\n") + ", conditions: [{type: fairlead.dev/Allocated, status: 'True', reason: Allocated, message: '', lastTransitionTime: '2026-01-01T00:00:00Z'}]}\n",
		"far.yaml":   web + strings.Replace(hasOne, "192.0.2.1", "198.51.100.1", 1)}
	for name, c := range map[string]struct {
		args  []string
		stdin string
		code  int
		out   string // part of
		errs  string // part of
	}{
		"help":                     {args: []string{"--help"}, out: "kubectl fairlead [command]"},
		"version":                  {args: []string{"--version"}, out: "version dev"},
		"no such command":          {args: []string{"explode"}, code: 2, errs: "unknown command"},
		"migrate what":             {args: []string{"migrate", "purelb"}, code: 2, errs: "unknown command"},
		"no such format":           {args: []string{"lint", "-o", "xml", "pool.yaml"}, code: 2, errs: "want wide, json or yaml"},
		"completion":               {args: []string{"completion", "bash"}, out: "bash completion"},
		"completes a command":      {args: []string{"__complete", "li"}, out: "lint"},
		"migrate":                  {args: []string{"migrate", "metallb", "theirs.yaml"}, out: "apiVersion: fairlead.dev/v1beta1", errs: "helm install fairlead"},
		"migrate what is piped":    {args: []string{"migrate", "metallb", "-"}, stdin: theirPool, out: "fairlead.dev/v1beta1"},
		"migrate refuses":          {args: []string{"migrate", "metallb", "echo.yaml"}, code: 1, errs: "extra refused"},
		"migrate keeps addresses":  {args: []string{"migrate", "metallb", "theirs.yaml", "hasOne.yaml"}, errs: "1 of 1 Services"},
		"migrate leaves ours":      {args: []string{"migrate", "metallb", "theirs.yaml", "taken.yaml"}, errs: "0 of 0 Services"},
		"migrate loses an address": {args: []string{"migrate", "metallb", "theirs.yaml", "far.yaml"}, code: 1, errs: "0 of 1 Services"},
		"lint":                     {args: []string{"lint", "ours.yaml", "web.yaml"}, errs: "3 objects, 0 findings"},
		"lint finds an error":      {args: []string{"lint", "bad.yaml"}, code: 1, out: "spec.adresses is unknown"},
		"lint warns":               {args: []string{"lint", "pool.yaml"}, out: "warning: IPAddressPool fairlead-system/p (pool.yaml, document 1): NotAdvertised"},
		"lint is strict":           {args: []string{"lint", "--strict", "pool.yaml"}, code: 1, out: "NotAdvertised"},
		"lint of nothing":          {args: []string{"lint", "none.yaml"}, code: 2, errs: "no such file"},
		"lint of no YAML":          {args: []string{"lint", "broken.yaml"}, code: 2, errs: "broken.yaml, document 1"},
		"lint needs files":         {args: []string{"lint"}, code: 2, errs: "requires at least 1 arg"},
		"lint without a cluster":   {args: []string{"lint", "--live", "pool.yaml"}, code: 2, errs: "finding the API server"},
		"diff":                     {args: []string{"diff", "ours.yaml", "--from", "web.yaml"}, code: 1, out: "shop/web   gets   -     192.0.2.0"},
		"diff, wide":               {args: []string{"diff", "-o", "wide", "ours.yaml", "--from", "web.yaml"}, code: 1, out: "L2Advertisement l"},
		"diff of what is there":    {args: []string{"diff", "pool.yaml", "--from", "ours.yaml"}, errs: "no Service"},
		"diff of something bad":    {args: []string{"diff", "bad.yaml", "--from", "ours.yaml"}, code: 1, errs: "spec.adresses"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := call(t, files, c.stdin, c.args...)
			if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) {
				t.Errorf("exit code %d, want %d\n--- out, want %q\n%s\n--- errors, want %q\n%s", code, c.code, c.out, out, c.errs, errs)
			}
			if strings.Contains(out+errs, "\x1b") {
				t.Errorf("coloured, though this is no terminal: %q", out+errs)
			}
		})
	}
}

func TestOutputIsReadable(t *testing.T) {
	files := map[string]string{"theirs.yaml": theirPool, "bad.yaml": strings.Replace(ourPool, "addresses", "adresses", 1), "ours.yaml": ourPool, "web.yaml": web}
	for name, args := range map[string][]string{
		"migrate": {"migrate", "metallb", "theirs.yaml", "-o", "json"},
		"lint":    {"lint", "bad.yaml", "-o", "json"},
		"diff":    {"diff", "ours.yaml", "--from", "web.yaml", "-o", "json"},
	} {
		t.Run(name, func(t *testing.T) {
			_, out, errs := call(t, files, "", args...)
			var v any
			if err := json.Unmarshal([]byte(out), &v); err != nil || v == nil {
				t.Errorf("%v in\n%s%s", err, out, errs)
			}
		})
	}
}

// What migrate writes passes lint.
func TestMigratedIsAccepted(t *testing.T) {
	_, out, _ := call(t, map[string]string{"f.yaml": theirPool + "---\napiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: l, namespace: metallb-system}\n"}, "", "migrate", "metallb", "f.yaml")
	if code, found, errs := call(t, nil, out, "lint", "--strict", "-"); code != 0 {
		t.Errorf("exit code %d\n%s%s", code, found, errs)
	}
}
