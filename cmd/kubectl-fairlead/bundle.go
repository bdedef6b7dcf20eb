package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// maxLog bounds what is taken of one container's log, the newest lines.
const maxLog = 5000

func newBundleCommand(o *options) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "support-bundle",
		Short: "Put all that helps to find a fault into one file",
		Long: `Put all that helps to find a fault into one .tar.gz: Fairlead's objects, Services, EndpointSlices, Nodes, what every speaker
decided and programmed, the chain of every Service, metrics, and the logs and Events of Fairlead's namespace. No Secret is read, and the
passwords in BGPPeers are left out; names and addresses of your cluster are in it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				file = "fairlead-support-" + time.Now().UTC().Format("20060102-150405") + ".tar.gz"
			}
			var text bytes.Buffer
			if err := o.bundle(cmd.Context(), &text); err != nil {
				return err
			}
			if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
				return fmt.Errorf("writing the bundle: %w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), file)
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "where to write it; default fairlead-support-TIME.tar.gz")
	return cmd
}

// archive is a .tar.gz in the making. What cannot be had is in it as the error.
type archive struct {
	*tar.Writer
	now time.Time
}

func (a archive) add(name string, text []byte, err error) error {
	if err != nil {
		name, text = name+".error", []byte(err.Error()+"\n")
	}
	if err := a.WriteHeader(&tar.Header{Name: "fairlead-support/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: a.now}); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if _, err := a.Write(text); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

func (o *options) bundle(ctx context.Context, out io.Writer) error {
	f, objects, err := o.facts(ctx)
	if err != nil {
		return err
	}
	clients, err := o.clientset()
	if err != nil {
		return err
	}
	zip := gzip.NewWriter(out)
	a := archive{tar.NewWriter(zip), time.Now()}
	text, err := dump(objects)
	if err := a.add("objects.yaml", text, err); err != nil {
		return err
	}
	server, err := clients.ServerVersion()
	if err == nil {
		text, err = json.MarshalIndent(server, "", "  ")
	}
	if err := a.add("kubernetes.json", text, err); err != nil {
		return err
	}
	if err := a.add("version.txt", []byte("kubectl-fairlead "+version+"\n"), nil); err != nil {
		return err
	}
	var chains bytes.Buffer
	for _, s := range f.Kube.Services {
		for _, c := range f.Service(s.Key) {
			printChain(&chains, c)
		}
	}
	if err := a.add("explain.txt", chains.Bytes(), nil); err != nil {
		return err
	}
	if err := o.addSpeakers(ctx, a, clients, f); err != nil {
		return err
	}
	if err := o.addLogs(ctx, a, clients); err != nil {
		return err
	}
	if err := a.Close(); err != nil {
		return fmt.Errorf("writing the bundle: %w", err)
	}
	if err := zip.Close(); err != nil {
		return fmt.Errorf("writing the bundle: %w", err)
	}
	return nil
}

// dump writes objects as YAML, without the passwords of BGP peers.
func dump(objects kube.Objects) ([]byte, error) {
	var out bytes.Buffer
	scheme := kube.Scheme()
	for _, object := range objects {
		if p, ok := object.(*v1beta1.BGPPeer); ok && p.Spec.Password != "" {
			p.Spec.Password = "(left out)"
			p.SetAnnotations(nil) // kubectl keeps the whole object in one
		}
		if _, ok := object.(*corev1.Pod); ok {
			continue // their environment is nobody's business
		}
		gvk, err := apiutil.GVKForObject(object, scheme)
		if err != nil {
			return nil, fmt.Errorf("naming %T: %w", object, err)
		}
		object.GetObjectKind().SetGroupVersionKind(gvk)
		object.SetManagedFields(nil)
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			return nil, fmt.Errorf("dumping %T: %w", object, err)
		}
		text, err := yaml.Marshal(fields)
		if err != nil {
			return nil, fmt.Errorf("dumping %T: %w", object, err)
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	return out.Bytes(), nil
}

func (o *options) addSpeakers(ctx context.Context, a archive, clients *kubernetes.Clientset, f explain.Facts) error {
	for node, s := range f.Speakers {
		for name, path := range map[string]string{"decisions.json": view.DecisionsPath, "datapath.json": view.DatapathPath, "metrics.txt": "/metrics"} {
			text, err := o.page(ctx, clients, s.Pod, path)
			if err := a.add(fmt.Sprintf("speakers/%s/%s", node, name), text, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// addLogs adds the logs of all containers in Fairlead's namespace, those before a restart too, and its Events.
func (o *options) addLogs(ctx context.Context, a archive, clients *kubernetes.Clientset) error {
	events, err := clients.CoreV1().Events(o.fairlead).List(ctx, metav1.ListOptions{})
	var text []byte
	if err == nil {
		text, err = yaml.Marshal(events.Items)
	}
	if err := a.add("events.yaml", text, err); err != nil {
		return err
	}
	pods, err := clients.CoreV1().Pods(o.fairlead).List(ctx, metav1.ListOptions{})
	if err != nil {
		return a.add("logs", nil, err)
	}
	for _, p := range pods.Items {
		for _, c := range p.Status.ContainerStatuses {
			for _, previous := range []bool{false, true} {
				if previous && c.RestartCount == 0 {
					continue
				}
				text, err := clients.CoreV1().Pods(o.fairlead).GetLogs(p.Name, &corev1.PodLogOptions{Container: c.Name, Previous: previous, TailLines: new(int64(maxLog))}).DoRaw(ctx)
				name := fmt.Sprintf("logs/%s/%s.log", p.Name, c.Name)
				if previous {
					name = fmt.Sprintf("logs/%s/%s.previous.log", p.Name, c.Name)
				}
				if err := a.add(name, text, err); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
