package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/fairlead-lb/fairlead/lab/image"
)

// programs are those that have images, with the user that runs them: the speaker needs capabilities, which only root gets without
// ambient ones.
func programs() map[string]string {
	return map[string]string{"lbcontroller": "65532:65532", "speaker": "0:0"}
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("images", flag.ContinueOnError)
	dir := fs.String("dir", "bin/images", "directory with the programs, as GOARCH/NAME; the archives are written there")
	version := fs.String("version", "dev", "version of the images: their tag, and what the programs must say")
	revision := fs.String("revision", "", "commit of the source")
	created := fs.Int64("created", 0, "time of the images in seconds since 1970; that of the commit makes them reproducible")
	prefix := fs.String("prefix", "fairlead-lb/", "what the names of the images begin with")
	if err := fs.Parse(args); err != nil {
		return err
	}
	names := programs()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		i := image.Image{Name: *prefix + name, Version: *version, Revision: *revision, Entrypoint: []string{"/" + name}, User: names[name],
			Created: time.Unix(*created, 0).UTC(), Platforms: map[string][]image.File{}}
		if err := pack(ctx, i, *dir, name); err != nil {
			return err
		}
	}
	return nil
}

// pack writes one archive, and checks it by running the program in it.
func pack(ctx context.Context, i image.Image, dir, name string) error {
	found, err := filepath.Glob(filepath.Join(dir, "*", name))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("packing %s: there is no %s; build it first", name, filepath.Join(dir, "GOARCH", name))
	}
	for _, path := range found {
		arch := filepath.Base(filepath.Dir(path))
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("packing %s: %w", name, err)
		}
		sbom, err := image.SBOM(i.Name, i.Version, data, i.Created)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s.spdx.json", name, arch)), sbom, 0o644); err != nil {
			return fmt.Errorf("writing the SBOM of %s: %w", name, err)
		}
		i.Platforms[arch] = []image.File{{Path: "/" + name, Mode: 0o555, Data: data}, {Path: "/usr/share/sbom/" + name + ".spdx.json", Mode: 0o444, Data: sbom}}
	}
	var archive bytes.Buffer
	if err := i.Write(&archive); err != nil {
		return err
	}
	file := filepath.Join(dir, name+".tar")
	if err := os.WriteFile(file, archive.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	written, err := image.Open(bytes.NewReader(archive.Bytes()))
	if err != nil {
		return fmt.Errorf("reading %s back: %w", file, err)
	}
	root, err := os.MkdirTemp("", "fairlead-image-")
	if err != nil {
		return fmt.Errorf("making a directory to unpack into: %w", err)
	}
	defer os.RemoveAll(root)
	says, err := written.Run(ctx, root, "--version")
	if err != nil {
		return err
	}
	if strings.TrimSpace(says) != i.Version {
		return fmt.Errorf("checking %s: the program in it says version %q, the image %q", file, strings.TrimSpace(says), i.Version)
	}
	fmt.Printf("%s  %s:%s for %s, %s, %d KiB\n", file, i.Name, i.Version, strings.Join(slices.Sorted(maps.Keys(i.Platforms)), " and "), digest.FromBytes(archive.Bytes()), archive.Len()/1024)
	return nil
}
