package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/manifest"
)

// read returns the objects in files, in the YAML and JSON files of directories, and in what is piped in, which is called "-".
func read(stdin io.Reader, names []string) ([]manifest.Object, error) {
	var out []manifest.Object
	for _, name := range names {
		files, err := expand(name)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			var text []byte
			if file == "-" {
				text, err = io.ReadAll(stdin)
			} else {
				text, err = os.ReadFile(file)
			}
			if err != nil {
				return nil, fmt.Errorf("reading manifests: %w", err)
			}
			objects, err := manifest.Parse(file, text)
			if err != nil {
				return nil, err
			}
			out = append(out, objects...)
		}
	}
	return out, nil
}

// expand returns the manifests below a directory, in the order of their names, or the name itself.
func expand(name string) ([]string, error) {
	if name == "-" {
		return []string{name}, nil
	}
	var out []string
	err := filepath.WalkDir(name, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() && (path == name || slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path))) {
			out = append(out, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading manifests: %w", err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("reading manifests: %s has no .yaml, .yml or .json file", name)
	}
	return out, nil
}
