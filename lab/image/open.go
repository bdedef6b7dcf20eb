package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Open reads an archive, checks the digest of everything in it, and returns the image; Created and Revision are those of the
// annotations.
func Open(r io.Reader) (Image, error) {
	files, err := untar(r)
	if err != nil {
		return Image{}, err
	}
	all := map[string][]byte{}
	for _, f := range files {
		all[f.Path] = f.Data
	}
	read := func(d ocispec.Descriptor, into any) error {
		data, ok := all[path.Join("/", ocispec.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded())]
		switch {
		case !ok:
			return fmt.Errorf("reading blob %s: it is not in the archive", d.Digest)
		case digest.FromBytes(data) != d.Digest || int64(len(data)) != d.Size:
			return fmt.Errorf("reading blob %s: it has another digest or size", d.Digest)
		}
		if raw, ok := into.(*[]byte); ok {
			*raw = data
			return nil
		}
		return json.Unmarshal(data, into)
	}
	var top, index ocispec.Index
	if err := json.Unmarshal(all["/"+ocispec.ImageIndexFile], &top); err != nil {
		return Image{}, fmt.Errorf("reading %s: %w", ocispec.ImageIndexFile, err)
	}
	if len(top.Manifests) != 1 {
		return Image{}, fmt.Errorf("reading %s: it has %d images, want one", ocispec.ImageIndexFile, len(top.Manifests))
	}
	if err := read(top.Manifests[0], &index); err != nil {
		return Image{}, err
	}
	out := Image{Name: index.Annotations[ocispec.AnnotationTitle], Version: index.Annotations[ocispec.AnnotationVersion],
		Revision: index.Annotations[ocispec.AnnotationRevision], Platforms: map[string][]File{}}
	for _, m := range index.Manifests {
		if err := out.open(m, read); err != nil {
			return Image{}, err
		}
	}
	return out, nil
}

// open reads the image of one architecture.
func (i *Image) open(d ocispec.Descriptor, read func(ocispec.Descriptor, any) error) error {
	var manifest ocispec.Manifest
	var config ocispec.Image
	var packed []byte
	if err := read(d, &manifest); err != nil {
		return err
	}
	if err := read(manifest.Config, &config); err != nil {
		return err
	}
	if len(manifest.Layers) != 1 || len(config.RootFS.DiffIDs) != 1 || d.Platform == nil || config.Architecture != d.Platform.Architecture {
		return fmt.Errorf("reading manifest %s: it and its configuration do not fit", d.Digest)
	}
	if err := read(manifest.Layers[0], &packed); err != nil {
		return err
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("unpacking layer %s: %w", manifest.Layers[0].Digest, err)
	}
	plain, err := io.ReadAll(zip)
	if err != nil {
		return fmt.Errorf("unpacking layer %s: %w", manifest.Layers[0].Digest, err)
	}
	if digest.FromBytes(plain) != config.RootFS.DiffIDs[0] {
		return fmt.Errorf("unpacking layer %s: the configuration names another", manifest.Layers[0].Digest)
	}
	files, err := untar(bytes.NewReader(plain))
	if err != nil {
		return err
	}
	i.Entrypoint, i.User, i.Created = config.Config.Entrypoint, config.Config.User, *config.Created
	i.Platforms[d.Platform.Architecture] = files
	return nil
}

// untar returns the files, but no directories.
func untar(r io.Reader) ([]File, error) {
	var out []File
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the archive: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(t)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", h.Name, err)
		}
		out = append(out, File{"/" + h.Name, h.Mode, data})
	}
}
