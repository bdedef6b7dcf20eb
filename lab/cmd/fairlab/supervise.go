package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/member"
	"github.com/fairlead-lb/fairlead/lab/sandbox"
	"github.com/fairlead-lb/fairlead/lab/state"
	"github.com/fairlead-lb/fairlead/lab/supervisor"
)

// What `up` hands to the supervisor.
const (
	hostAPIFD  = 3 // listening socket in the machine's network namespace
	recordedFD = 4 // a byte once the supervisor's pid is on disk
)

// startSupervisor starts the lab's pid 1 and returns when `down` can find it. How it
// ends, if it does, is sent on the channel.
func startSupervisor(dir state.Dir, lab config.Lab) (ended <-chan error, err error) {
	if err := writeOptions(dir, lab); err != nil {
		return nil, err
	}
	api, err := listenHostAPI()
	if err != nil {
		return nil, err
	}
	defer api.Close()
	log, err := os.OpenFile(dir.Log("supervisor"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening supervisor's log: %w", err)
	}
	defer log.Close()
	recordedOut, recordedIn, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making pipe: %w", err)
	}
	defer recordedOut.Close()
	defer recordedIn.Close()
	cmd := exec.Command("/proc/self/exe", "supervise", "--dir", string(dir))
	cmd.Dir = "/"
	cmd.Env = supervisorEnv()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{api, recordedOut} // hostAPIFD, recordedFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: sandbox.Flags, Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting supervisor: %w", err)
	}
	end := make(chan error, 1)
	go func() { end <- cmd.Wait() }()
	process, err := state.FindProcess(cmd.Process.Pid)
	if err == nil {
		err = dir.SaveSupervisor(process)
	}
	if err == nil {
		_, err = recordedIn.Write([]byte{1})
	}
	return end, err
}

// supervisorEnv keeps the user's proxies, locales and kubeconfigs out of the lab.
func supervisorEnv() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LANG=C.UTF-8",
	}
}

func writeOptions(dir state.Dir, lab config.Lab) error {
	data, err := json.MarshalIndent(lab, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding options of the lab: %w", err)
	}
	if err := os.MkdirAll(dir.Logs(), 0o755); err != nil {
		return fmt.Errorf("making state directory: %w", err)
	}
	if err := os.WriteFile(dir.Options(), data, 0o644); err != nil {
		return fmt.Errorf("writing options of the lab: %w", err)
	}
	return nil
}

// listenHostAPI opens the port that the kubeconfig points to.
func listenHostAPI() (*os.File, error) {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("listening for kubectl: %w", err)
	}
	defer listener.Close()
	file, err := listener.File()
	if err != nil {
		return nil, fmt.Errorf("listening for kubectl: %w", err)
	}
	return file, nil
}

func newSuperviseCommand() *cobra.Command {
	var dir string
	command := &cobra.Command{
		Use: "supervise", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return supervise(cmd, state.Dir(dir))
		},
	}
	command.Flags().StringVar(&dir, "dir", "", "state directory of the lab")
	return command
}

func supervise(cmd *cobra.Command, dir state.Dir) error {
	recorded := os.NewFile(recordedFD, "recorded")
	if _, err := recorded.Read(make([]byte, 1)); err != nil {
		return errors.New("ended by the end of `up`, or not started by it")
	}
	if err := recorded.Close(); err != nil {
		return fmt.Errorf("closing pipe: %w", err)
	}
	lab, err := options(dir)
	if err != nil {
		return err
	}
	file := os.NewFile(hostAPIFD, "host API")
	listener, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("taking over the host's API listener: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("closing socket: %w", err)
	}
	return supervisor.Run(cmd.Context(), supervisor.Options{
		Dir: dir, Lab: lab, HostAPI: listener, Log: logger(),
	})
}

func newMemberCommand() *cobra.Command {
	var file string
	command := &cobra.Command{
		Use: "member", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return member.Run(cmd.Context(), filepath.Clean(file), logger())
		},
	}
	command.Flags().StringVar(&file, "config", "", "configuration of the member")
	return command
}

func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}
