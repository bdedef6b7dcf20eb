package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/lab/daemon"
	"github.com/fairlead-lb/fairlead/lab/fabric"
	"github.com/fairlead-lb/fairlead/lab/reaper"
	"github.com/fairlead-lb/fairlead/lab/sandbox"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

// Config is what a member's init is told.
type Config struct {
	Name    string            `json:"name"`
	Sysctls []topology.Sysctl `json:"sysctls"`
	Dirs    []Dir             `json:"dirs"`
	Daemons []daemon.Spec     `json:"daemons"`
}

// Dir is a directory to make in the member's /run.
type Dir struct {
	Path string `json:"path"`
	User string `json:"user"` // owner, a name of /etc/passwd
}

// The pipes between the supervisor and the init.
const (
	preparedFD = 3 // the init closes it after a byte: the namespaces are furnished
	pluggedFD  = 4 // a byte from the supervisor: the cables are plugged in
)

// Run is the init of a member, started by Start with a file that holds its Config.
// It returns only when ctx ends or with an error.
func Run(ctx context.Context, configPath string, log *slog.Logger) error {
	data, err := os.ReadFile(configPath)
	if err != nil {
		return fmt.Errorf("reading configuration: %w", err)
	}
	var config Config
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("parsing configuration: %w", err)
	}
	if err := prepare(config); err != nil {
		return err
	}
	if err := waitForCables(); err != nil {
		return err
	}
	reaper := reaper.New()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return reaper.Run(ctx) })
	for _, spec := range config.Daemons {
		d := daemon.New(spec, daemon.Options{Reaper: reaper, Log: log})
		group.Go(func() error { return d.Run(ctx) })
	}
	return group.Wait()
}

func prepare(config Config) error {
	if err := sandbox.Furnish(config.Name); err != nil {
		return err
	}
	if err := fabric.SetSysctls(config.Sysctls); err != nil {
		return err
	}
	for _, dir := range config.Dirs {
		if err := makeDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func makeDir(dir Dir) error {
	if err := os.MkdirAll(dir.Path, 0o755); err != nil {
		return fmt.Errorf("making directory: %w", err)
	}
	return Chown(dir.Path, dir.User)
}

// Chown gives path to the user called name and its group.
func Chown(path, name string) error {
	owner, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("looking up owner of %s: %w", path, err)
	}
	uid, uidErr := strconv.Atoi(owner.Uid)
	gid, gidErr := strconv.Atoi(owner.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return fmt.Errorf("parsing ids of user %s: %w", name, err)
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return fmt.Errorf("changing owner: %w", err)
	}
	return nil
}

// waitForCables tells the supervisor that the namespaces are ready and waits for
// its word that the links are in them.
func waitForCables() error {
	prepared := os.NewFile(preparedFD, "prepared")
	plugged := os.NewFile(pluggedFD, "plugged")
	defer plugged.Close()
	if _, err := prepared.Write([]byte{1}); err != nil {
		return fmt.Errorf("reporting to the supervisor: %w", err)
	}
	if err := prepared.Close(); err != nil {
		return fmt.Errorf("reporting to the supervisor: %w", err)
	}
	if _, err := plugged.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("waiting for the supervisor: %w", err)
	}
	return nil
}
