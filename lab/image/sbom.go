package image

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// SBOM returns what the Go program in data is made of, as an SPDX 2.3 document: its own module, Go itself, and every module that is
// linked in, with their checksums as go.sum has them. It is read out of the program, so that it cannot name anything else.
func SBOM(name, version string, data []byte, created time.Time) ([]byte, error) {
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading the modules of %s: %w", name, err)
	}
	root := spdxPackage{ID: "SPDXRef-program", Name: name, Version: version, Location: "NOASSERTION", License: "Apache-2.0",
		Checksums: []spdxChecksum{{"SHA256", digest.FromBytes(data).Encoded()}}}
	doc := spdx{Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: name + "-" + version,
		Namespace: "https://fairlead.dev/spdx/" + path.Base(name) + "/" + digest.FromBytes(data).Encoded(),
		Creation:  spdxCreation{Created: created.UTC().Format(time.RFC3339), Creators: []string{"Tool: fairlead-images"}},
		Packages:  []spdxPackage{root, {ID: "SPDXRef-go", Name: "go", Version: strings.TrimPrefix(info.GoVersion, "go"), Location: "NOASSERTION", License: "BSD-3-Clause"}}}
	doc.relate("SPDXRef-DOCUMENT", "DESCRIBES", root.ID)
	doc.relate(root.ID, "DEPENDS_ON", "SPDXRef-go")
	for i, m := range info.Deps {
		p := module(i, m)
		doc.Packages = append(doc.Packages, p)
		doc.relate(root.ID, "DEPENDS_ON", p.ID)
	}
	out, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encoding the SBOM of %s: %w", name, err)
	}
	return append(out, '\n'), nil
}

func module(i int, m *debug.Module) spdxPackage {
	if m.Replace != nil {
		m = m.Replace
	}
	return spdxPackage{ID: fmt.Sprintf("SPDXRef-module-%d", i), Name: m.Path, Version: m.Version, Location: "NOASSERTION", License: "NOASSERTION",
		Comment: m.Sum, References: []spdxReference{{"PACKAGE-MANAGER", "purl", fmt.Sprintf("pkg:golang/%s@%s", m.Path, m.Version)}}}
}

// spdx and the types below are the parts of SPDX 2.3 that are used.
type spdx struct {
	Version       string             `json:"spdxVersion"`
	License       string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

func (d *spdx) relate(from, how, to string) {
	d.Relationships = append(d.Relationships, spdxRelationship{from, how, to})
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID         string          `json:"SPDXID"`
	Name       string          `json:"name"`
	Version    string          `json:"versionInfo"`
	Location   string          `json:"downloadLocation"`
	License    string          `json:"licenseConcluded"`
	Comment    string          `json:"comment,omitempty"` // the module's sum
	Checksums  []spdxChecksum  `json:"checksums,omitempty"`
	References []spdxReference `json:"externalRefs,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxReference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}
