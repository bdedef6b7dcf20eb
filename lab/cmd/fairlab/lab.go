package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/control"
	"github.com/fairlead-lb/fairlead/lab/state"
)

// The environment that fairlab reads.
const (
	stateEnv = "FAIRLAB_STATE" // default of --state
	slowEnv  = "FAIRLAB_SLOW"  // factor on every timeout
)

const defaultState = "/var/lib/fairlab"

// labFlags select a lab; every subcommand has them.
type labFlags struct {
	name  string
	state string
}

func (l *labFlags) register(root *cobra.Command) {
	l.name, l.state = "lab", defaultState
	if dir := os.Getenv(stateEnv); dir != "" {
		l.state = dir
	}
	root.PersistentFlags().StringVar(&l.name, "name", l.name, "which lab")
	root.PersistentFlags().StringVar(&l.state, "state", l.state, "directory of all labs; also $"+stateEnv)
}

// split takes --name and --state from the front of arguments that are otherwise
// another program's, and returns the rest.
func (l *labFlags) split(args []string) ([]string, error) {
	targets := map[string]*string{"--name": &l.name, "--state": &l.state}
	for len(args) > 0 {
		flag, value, inline := strings.Cut(args[0], "=")
		target, ours := targets[flag]
		if !ours {
			return args, nil
		}
		args = args[1:]
		if !inline {
			if len(args) == 0 {
				return nil, fmt.Errorf("flag needs an argument: %s", flag)
			}
			value, args = args[0], args[1:]
		}
		*target = value
	}
	return args, nil
}

// dir is the state directory of the lab.
func (l *labFlags) dir() (state.Dir, error) {
	if err := config.ValidateName(l.name); err != nil {
		return "", err
	}
	base, err := filepath.Abs(l.state)
	if err != nil {
		return "", fmt.Errorf("finding state directory: %w", err)
	}
	return state.Dir(filepath.Join(base, l.name)), nil
}

// running returns the directory and supervisor of a lab that runs.
func (l *labFlags) running() (state.Dir, state.Process, error) {
	dir, err := l.dir()
	if err != nil {
		return "", state.Process{}, err
	}
	process, alive := dir.Supervisor()
	if !alive {
		return "", state.Process{}, fmt.Errorf("lab %s is not running; start it with `fairlab up --name %s`", l.name, l.name)
	}
	return dir, process, nil
}

// client talks to the supervisor of a lab that runs.
func (l *labFlags) client() (*control.Client, error) {
	dir, _, err := l.running()
	if err != nil {
		return nil, err
	}
	return control.NewClient(dir.ControlSocket()), nil
}

// options are those that a lab was started with.
func options(dir state.Dir) (config.Lab, error) {
	var lab config.Lab
	data, err := os.ReadFile(dir.Options())
	if err != nil {
		return lab, fmt.Errorf("reading options of the lab: %w", err)
	}
	if err := json.Unmarshal(data, &lab); err != nil {
		return lab, fmt.Errorf("parsing options of the lab: %w", err)
	}
	return lab, nil
}

// program is the path of another program of the checkout, beside this one.
func program(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding own path: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is missing; build it with `make build` in the checkout: %w", name, err)
	}
	return path, nil
}

// slow reads the factor on timeouts.
func slow() (float64, error) {
	text := os.Getenv(slowEnv)
	if text == "" {
		return 1, nil
	}
	factor, err := strconv.ParseFloat(text, 64)
	if err != nil || factor < 1 {
		return 0, errors.New(slowEnv + "=" + text + ": want a number of 1 or more")
	}
	return factor, nil
}
