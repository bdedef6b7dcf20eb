package kube

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/election/keyring"
)

// GossipSecret is the name of the Secret that holds the keys of the speakers' gossip; see package election/keyring for its
// entries. On it, AnnotationRotate with the value "true" asks for a new key, and AnnotationRotated is the time (RFC 3339) of
// the rotation's last step; the controller writes that one.
const (
	GossipSecret      = "fairlead-gossip"
	AnnotationRotate  = "fairlead.dev/rotate"
	AnnotationRotated = "fairlead.dev/rotated"
)

// GossipKeys returns the keys in the Secret, the one to use first. An error that wraps keyring.ErrEntry says that something
// in the Secret is wrong; what is right comes beside it.
func GossipKeys(ctx context.Context, live client.Reader, namespace string) ([]keyring.Key, error) {
	var secret corev1.Secret
	name := types.NamespacedName{Namespace: namespace, Name: GossipSecret}
	if err := live.Get(ctx, name, &secret); err != nil {
		return nil, fmt.Errorf("getting secret %s: %w", name, err)
	}
	keys, err := keyring.Parse(secret.Data)
	if err != nil {
		err = fmt.Errorf("reading secret %s: %w", name, err)
	}
	return keys, err
}

// GossipKeeper makes the Secret with a fresh random key where there is none, and takes the steps of its rotation. It needs no
// lease: whoever comes first creates the Secret, and of two that take a step the API server refuses one.
type GossipKeeper struct {
	live      client.Reader
	writer    client.Writer
	namespace string
	policy    keyring.Policy
	log       *slog.Logger
	told      string // the last complaint, so that it is not repeated
}

// keeperPause is the time between two looks at the Secret.
const keeperPause = 10 * time.Second

// NewGossipKeeper returns a runnable for a manager's Add. It reads past the cache: one Secret, six times a minute.
func NewGossipKeeper(live client.Reader, w client.Writer, opts Options, policy keyring.Policy, log *slog.Logger) (*GossipKeeper, error) {
	policy, err := policy.Validate()
	if err != nil {
		return nil, fmt.Errorf("keeping the gossip key: %w", err)
	}
	return &GossipKeeper{live: live, writer: w, namespace: opts.Namespace, policy: policy, log: log}, nil
}

// NeedLeaderElection says no, so that speakers need not wait for a lease.
func (*GossipKeeper) NeedLeaderElection() bool { return false }

// Start looks after the Secret until ctx ends.
func (k *GossipKeeper) Start(ctx context.Context) error {
	for {
		pause := keeperPause
		if err := k.Keep(ctx, time.Now()); err != nil && ctx.Err() == nil {
			if k.told != err.Error() {
				k.log.Warn("gossip key not looked after", "err", err)
			}
			k.told, pause = err.Error(), time.Second
		} else {
			k.told = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// Keep looks at the Secret once and does what is due. A Secret that is wrong is never touched: that is an error, and the
// speakers report it too.
func (k *GossipKeeper) Keep(ctx context.Context, now time.Time) error {
	name := types.NamespacedName{Namespace: k.namespace, Name: GossipSecret}
	var secret corev1.Secret
	err := k.live.Get(ctx, name, &secret)
	if apierrors.IsNotFound(err) {
		return k.create(ctx, now)
	}
	if err != nil {
		return fmt.Errorf("getting secret %s: %w", name, err)
	}
	have, _ := keyring.Parse(secret.Data) // Next reports what is wrong
	fresh, err := freshKey(have...)
	if err != nil {
		return err
	}
	step, next, err := rotation(&secret).Next(k.policy, now, fresh)
	if err != nil {
		return fmt.Errorf("rotating the key in secret %s: %w", name, err)
	}
	if step == keyring.Wait {
		return nil
	}
	setRotation(&secret, next)
	if err := k.writer.Update(ctx, &secret); err != nil { // refused if the Secret has changed since it was read
		return fmt.Errorf("updating secret %s: %w", name, err)
	}
	k.log.Info("gossip key rotation", "step", step, "secret", name.String())
	return nil
}

// create makes the Secret; that somebody else was faster is no error.
func (k *GossipKeeper) create(ctx context.Context, now time.Time) error {
	key, err := freshKey()
	if err != nil {
		return err
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: k.namespace, Name: GossipSecret}, Type: corev1.SecretTypeOpaque}
	setRotation(secret, keyring.Rotation{Data: map[string][]byte{keyring.EntryKey: key.Secret[:]}, Since: now})
	if err := k.writer.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating secret %s/%s: %w", k.namespace, GossipSecret, err)
	}
	return nil
}

// freshKey returns a random key that can stand beside those there are.
func freshKey(have ...keyring.Key) (keyring.Key, error) {
	for {
		secret := make([]byte, keyring.Size)
		if _, err := rand.Read(secret); err != nil {
			return keyring.Key{}, fmt.Errorf("generating the gossip key: %w", err)
		}
		key, err := keyring.New(secret)
		if err != nil || key.Distinct(have...) {
			return key, err
		}
	}
}

func rotation(s *corev1.Secret) keyring.Rotation {
	since, err := time.Parse(time.RFC3339, s.Annotations[AnnotationRotated])
	if _, there := s.Annotations[AnnotationRotated]; !there {
		since = s.CreationTimestamp.Time
	} else if err != nil {
		since = time.Time{}
	}
	return keyring.Rotation{Data: s.Data, Requested: s.Annotations[AnnotationRotate] == "true", Since: since}
}

func setRotation(s *corev1.Secret, r keyring.Rotation) {
	s.Data = r.Data
	metav1.SetMetaDataAnnotation(&s.ObjectMeta, AnnotationRotated, r.Since.UTC().Format(time.RFC3339))
	if !r.Requested {
		delete(s.Annotations, AnnotationRotate)
	}
}
