package main

import (
	"context"
	"fmt"
	"net/url"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// The address space of etcd's control plane namespace is its own, so the usual
// ports are free in every lab.
const (
	defaultEtcdClientURL = "http://127.0.0.1:2379"
	etcdPeerURL          = "http://127.0.0.1:2380"

	etcdQuotaBytes = 8 << 30 // upstream's recommended maximum
	// walSegmentBytes replaces 64 MB, of which etcd allocates two at once: the
	// state directory may be a tmpfs in a small virtual machine.
	walSegmentBytes = 16 << 20
)

func newEtcdCommand() *cobra.Command {
	var dataDir, clientURL string
	command := &cobra.Command{
		Use:          "etcd",
		Short:        "A single etcd member that does not survive a power failure of the machine, and need not",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return runEtcd(ctx, dataDir, clientURL)
		},
	}
	command.Flags().StringVar(&dataDir, "data-dir", "", "directory of the database, made if absent")
	command.Flags().StringVar(&clientURL, "listen-client-url", defaultEtcdClientURL, "URL that clients connect to")
	_ = command.MarkFlagRequired("data-dir") // errors only for an unknown flag
	return command
}

func runEtcd(ctx context.Context, dataDir, clientURL string) error {
	config, err := etcdConfig(dataDir, clientURL)
	if err != nil {
		return err
	}
	wal.SegmentSizeBytes = walSegmentBytes
	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("starting etcd in %s: %w", dataDir, err)
	}
	defer server.Close()
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.Err():
		return fmt.Errorf("serving etcd: %w", err)
	case <-server.Server.StopNotify():
		return fmt.Errorf("etcd in %s stopped by itself", dataDir)
	}
}

func etcdConfig(dataDir, clientURL string) (*embed.Config, error) {
	client, err := url.Parse(clientURL)
	if err != nil {
		return nil, fmt.Errorf("parsing client URL: %w", err)
	}
	peer, err := url.Parse(etcdPeerURL)
	if err != nil {
		return nil, fmt.Errorf("parsing peer URL: %w", err)
	}
	config := embed.NewConfig()
	config.Dir = dataDir
	config.ListenClientUrls = []url.URL{*client}
	config.AdvertiseClientUrls = []url.URL{*client}
	config.ListenPeerUrls = []url.URL{*peer}
	config.AdvertisePeerUrls = []url.URL{*peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = true // a lab's data is thrown away with the lab
	config.QuotaBackendBytes = etcdQuotaBytes
	config.LogLevel = "warn"
	config.WarningUnaryRequestDuration = 300 * time.Millisecond // embed leaves 0: every request logged
	return config, nil
}
