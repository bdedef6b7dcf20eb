package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "crypto/sha256" // by which go-digest digests
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// File is a file of the layer.
type File struct {
	Path string // absolute
	Mode int64
	Data []byte
}

// Image is what goes into an archive.
type Image struct {
	Name       string // fairlead-lb/speaker
	Version    string // the tag
	Revision   string // of the source
	Entrypoint []string
	User       string // "65532:65532"
	Created    time.Time
	Platforms  map[string][]File // by GOARCH, for linux
}

// blobs are the contents of an archive by their digest.
type blobs map[digest.Digest][]byte

func (b blobs) add(data []byte) (digest.Digest, int64) {
	d := digest.FromBytes(data)
	b[d] = data
	return d, int64(len(data))
}

func (b blobs) addJSON(v any) (digest.Digest, int64, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", 0, fmt.Errorf("encoding %T: %w", v, err)
	}
	d, n := b.add(data)
	return d, n, nil
}

// Write writes the archive.
func (i Image) Write(w io.Writer) error {
	all := blobs{}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Annotations: i.annotations()}
	for _, arch := range slices.Sorted(maps.Keys(i.Platforms)) {
		d, err := i.manifest(all, arch)
		if err != nil {
			return err
		}
		index.Manifests = append(index.Manifests, d)
	}
	d, n, err := all.addJSON(index)
	if err != nil {
		return err
	}
	reference := i.Name + ":" + i.Version
	top, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{{
		MediaType: ocispec.MediaTypeImageIndex, Digest: d, Size: n,
		Annotations: map[string]string{ocispec.AnnotationRefName: i.Version, "io.containerd.image.name": reference}, // containerd's importer looks for its own
	}}})
	if err != nil {
		return fmt.Errorf("encoding the index of %s: %w", reference, err)
	}
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return fmt.Errorf("encoding the layout of %s: %w", reference, err)
	}
	files := []File{{ocispec.ImageLayoutFile, 0o644, layout}, {ocispec.ImageIndexFile, 0o644, top}}
	for _, d := range slices.Sorted(maps.Keys(all)) {
		files = append(files, File{path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()), 0o644, all[d]})
	}
	return i.tar(w, files)
}

func (i Image) annotations() map[string]string {
	return map[string]string{ocispec.AnnotationVersion: i.Version, ocispec.AnnotationRevision: i.Revision, ocispec.AnnotationLicenses: "Apache-2.0",
		ocispec.AnnotationTitle: i.Name, ocispec.AnnotationCreated: i.Created.UTC().Format(time.RFC3339)}
}

// manifest adds what one architecture needs and returns its descriptor.
func (i Image) manifest(all blobs, arch string) (ocispec.Descriptor, error) {
	var plain, packed bytes.Buffer
	if err := i.tar(&plain, i.Platforms[arch]); err != nil {
		return ocispec.Descriptor{}, err
	}
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("packing the layer for %s: %w", arch, err)
	}
	if _, err := zip.Write(plain.Bytes()); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("packing the layer for %s: %w", arch, err)
	}
	if err := zip.Close(); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("packing the layer for %s: %w", arch, err)
	}
	layer, size := all.add(packed.Bytes())
	platform := ocispec.Platform{Architecture: arch, OS: "linux"}
	created := i.Created.UTC()
	config, configSize, err := all.addJSON(ocispec.Image{
		Created: &created, Platform: platform,
		Config:  ocispec.ImageConfig{Entrypoint: i.Entrypoint, User: i.User, WorkingDir: "/", Labels: i.annotations()},
		RootFS:  ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain.Bytes())}},
		History: []ocispec.History{{Created: &created, CreatedBy: "fairlead images"}},
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d, n, err := all.addJSON(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Annotations: i.annotations(),
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: config, Size: configSize},
		Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: layer, Size: size}},
	})
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: n, Platform: &platform}, err
}

// tar writes files, sorted as they are, with the directories above them.
func (i Image) tar(w io.Writer, files []File) error {
	t := tar.NewWriter(w)
	made := map[string]bool{}
	for _, f := range files {
		name := strings.TrimPrefix(f.Path, "/")
		for _, dir := range parents(name) {
			if made[dir] {
				continue
			}
			made[dir] = true
			if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: i.Created, Format: tar.FormatUSTAR}); err != nil {
				return fmt.Errorf("writing directory %s: %w", dir, err)
			}
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: f.Mode, Size: int64(len(f.Data)), ModTime: i.Created, Format: tar.FormatUSTAR}); err != nil {
			return fmt.Errorf("writing file %s: %w", name, err)
		}
		if _, err := t.Write(f.Data); err != nil {
			return fmt.Errorf("writing file %s: %w", name, err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	return nil
}

// parents returns the directories above a file, the highest first.
func parents(name string) []string {
	var out []string
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		out = append([]string{dir}, out...)
	}
	return out
}
