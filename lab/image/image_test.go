package image

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The test binary is the program in the images: asked so, it says who it is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		os.Stdout.WriteString("v1.2.3\n")
		return
	}
	os.Exit(m.Run())
}

func itself(t *testing.T) []byte {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func sample(program []byte) Image {
	return Image{Name: "fairlead-lb/sample", Version: "v1.2.3", Revision: "abc", Entrypoint: []string{"/sample"}, User: "65532:65532", Created: time.Unix(1700000000, 0).UTC(),
		Platforms: map[string][]File{runtime.GOARCH: {{"/sample", 0o555, program}, {"/usr/share/sbom.json", 0o444, []byte("{}")}}, "other": {{"/sample", 0o555, []byte("for another machine")}}}}
}

func TestWrittenIsReadBack(t *testing.T) {
	var out bytes.Buffer
	want := sample([]byte("program"))
	if err := want.Write(&out); err != nil {
		t.Fatal(err)
	}
	got, err := Open(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-written +read):\n%s", d)
	}
}

func TestSameInputSameBytes(t *testing.T) {
	var a, b bytes.Buffer
	if err := sample([]byte("program")).Write(&a); err != nil {
		t.Fatal(err)
	}
	if err := sample([]byte("program")).Write(&b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two archives of one image differ")
	}
}

func TestDamageIsSeen(t *testing.T) {
	var out bytes.Buffer
	if err := sample([]byte("program")).Write(&out); err != nil {
		t.Fatal(err)
	}
	whole := out.Bytes()
	damaged := bytes.Replace(slices.Clone(whole), []byte(`"linux"`), []byte(`"linix"`), 1)
	if _, err := Open(bytes.NewReader(damaged)); err == nil || !strings.Contains(err.Error(), "digest") {
		t.Errorf("a changed blob is read as if it were whole: %v", err)
	}
	if _, err := Open(bytes.NewReader(whole[:len(whole)/2])); err == nil {
		t.Error("half an archive is read as if it were whole")
	}
}

func TestTheProgramRunsOutOfTheArchive(t *testing.T) {
	var out bytes.Buffer
	if err := sample(itself(t)).Write(&out); err != nil {
		t.Fatal(err)
	}
	i, err := Open(&out)
	if err != nil {
		t.Fatal(err)
	}
	version, err := i.Run(t.Context(), t.TempDir(), "--version")
	if err != nil || version != "v1.2.3\n" {
		t.Errorf("it says %q, %v", version, err)
	}
}

// built returns the path of the command, built as `make images` builds it.
func built(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "images")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../cmd/images").CombinedOutput(); err != nil {
		t.Fatalf("building the command: %v: %s", err, out)
	}
	return path
}

func TestCommand(t *testing.T) {
	command, dir := built(t), t.TempDir()
	pack := func(version string) (string, error) {
		out, err := exec.CommandContext(t.Context(), command, "-dir", dir, "-version", version, "-created", "1700000000").CombinedOutput()
		return string(out), err
	}
	if out, err := pack("v1.2.3"); err == nil || !strings.Contains(out, "build it first") {
		t.Errorf("without programs: %v: %s", err, out)
	}
	for _, name := range []string{"lbcontroller", "speaker"} {
		if err := os.MkdirAll(filepath.Join(dir, runtime.GOARCH), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, runtime.GOARCH, name), itself(t), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	first, err := pack("v1.2.3")
	if err != nil || !strings.Contains(first, "fairlead-lb/speaker:v1.2.3 for "+runtime.GOARCH) {
		t.Errorf("packing: %v: %s", err, first)
	}
	if again, err := pack("v1.2.3"); err != nil || again != first {
		t.Errorf("the second time it says %s(%v), the first time %s", again, err, first)
	}
	if out, err := pack("v9"); err == nil || !strings.Contains(out, `says version "v1.2.3"`) {
		t.Errorf("a program of another version is packed: %v: %s", err, out)
	}
}

// The programs of tests do not say what they are made of, so that one is built.
func TestSBOM(t *testing.T) {
	program, err := os.ReadFile(built(t))
	if err != nil {
		t.Fatal(err)
	}
	text, err := SBOM("fairlead-lb/images", "v1.2.3", program, time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	var doc spdx
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(doc.Packages, func(p spdxPackage) bool { return p.Name == "github.com/opencontainers/go-digest" && p.Version != "" }) || len(doc.Relationships) != len(doc.Packages) {
		t.Errorf("the SBOM lacks a module that the program links, or relates %d of %d packages", len(doc.Relationships), len(doc.Packages))
	}
	if _, err := SBOM("x", "y", []byte("no program"), time.Time{}); err == nil {
		t.Error("what is no Go program has an SBOM")
	}
	if _, err := (Image{}).Run(t.Context(), t.TempDir()); err == nil {
		t.Error("an image for no architecture runs")
	}
}
