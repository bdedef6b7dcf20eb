package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Run unpacks the image for this machine's architecture into dir, runs its entry point with the arguments, and returns what it
// prints. It is no sandbox: run only what you have made.
func (i Image) Run(ctx context.Context, dir string, args ...string) (string, error) {
	files, ok := i.Platforms[runtime.GOARCH]
	if !ok || len(i.Entrypoint) == 0 {
		return "", fmt.Errorf("running %s: it has no program for %s", i.Name, runtime.GOARCH)
	}
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", fmt.Errorf("unpacking %s: %w", i.Name, err)
		}
		if err := os.WriteFile(path, f.Data, os.FileMode(f.Mode)); err != nil {
			return "", fmt.Errorf("unpacking %s: %w", i.Name, err)
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, i.Entrypoint[0]), args...).Output()
	if err != nil {
		return "", fmt.Errorf("running %s: %w", i.Name, err)
	}
	return string(out), nil
}
