package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/fairlead-lb/fairlead/internal/admission"
	"github.com/fairlead-lb/fairlead/lb"
)

// reviewer answers as it is told, and keeps the question.
type reviewer struct {
	decision admission.Decision
	err      error
	asked    admission.Request
}

func (r *reviewer) Review(_ context.Context, q admission.Request) (admission.Decision, error) {
	r.asked = q
	return r.decision, r.err
}

// review sends an AdmissionReview over HTTP, as the API server does.
func review(t *testing.T, r Reviewer, kind, resource string, op admissionv1.Operation, old, now string) *admissionv1.AdmissionResponse {
	t.Helper()
	raw := func(text string) runtime.RawExtension {
		if text == "" {
			return runtime.RawExtension{} // encoded as null
		}
		return runtime.RawExtension{Raw: []byte(text)}
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: types.UID("u"), Operation: op, Namespace: home, Name: "p", Object: raw(now), OldObject: raw(old),
			Kind:     metav1.GroupVersionKind{Group: "fairlead.dev", Version: "v1beta1", Kind: kind},
			Resource: metav1.GroupVersionResource{Group: "fairlead.dev", Version: "v1beta1", Resource: resource},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequest(http.MethodPost, WebhookPath, bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	hook(r).ServeHTTP(answer, request)
	var out admissionv1.AdmissionReview
	if err := json.Unmarshal(answer.Body.Bytes(), &out); err != nil || out.Response == nil || out.Response.UID != "u" {
		t.Fatalf("answer %s: %v", answer.Body, err)
	}
	return out.Response
}

const poolJSON = `{"metadata":{"namespace":"fairlead-system","name":"p"},"spec":{"addresses":["192.0.2.0/28"]}}`

func TestReviewAnswers(t *testing.T) {
	bad := field.Invalid(field.NewPath("spec", "addresses").Index(0), "192.0.2.0/28", "overlaps")
	warned := admission.Decision{Warnings: []admission.Warning{{Reason: lb.WrongNamespace, Message: "nobody reads it"}}}
	refused := admission.Decision{Refusals: []admission.Refusal{{Reason: lb.PoolOverlap, Err: bad}}, Warnings: warned.Warnings}
	for name, c := range map[string]struct {
		reviewer *reviewer
		op       admissionv1.Operation
		old, now string
		want     string
	}{
		"allowed":     {&reviewer{}, "CREATE", "", poolJSON, "allowed"},
		"warned":      {&reviewer{decision: warned}, "CREATE", "", poolJSON, "allowed; nobody reads it"},
		"refused":     {&reviewer{decision: refused}, "CREATE", "", poolJSON, `422 Invalid IPAddressPool.fairlead.dev "p" is invalid: spec.addresses[0]: Invalid value: "192.0.2.0/28": overlaps; cause spec.addresses[0]; nobody reads it`},
		"not deleted": {&reviewer{decision: refused}, "DELETE", poolJSON, "", `403 Forbidden ipaddresspools.fairlead.dev "p" is forbidden: spec.addresses[0]: Invalid value: "192.0.2.0/28": overlaps; nobody reads it`},
		"not known":   {&reviewer{err: errors.New("no facts")}, "UPDATE", poolJSON, poolJSON, "allowed; Fairlead could not check this change: no facts"},
		"unreadable":  {&reviewer{}, "CREATE", "", `{"spec":{"addresses":7}}`, "allowed; Fairlead could not check this change: reading IPAddressPool fairlead-system/p: decoding *v1beta1.IPAddressPool: json: cannot unmarshal number into Go struct field IPAddressPoolSpec.spec.addresses of type []string"},
	} {
		t.Run(name, func(t *testing.T) {
			r := review(t, c.reviewer, "IPAddressPool", "ipaddresspools", c.op, c.old, c.now)
			got := "allowed"
			if !r.Allowed {
				got = fmt.Sprintf("%d %s %s", r.Result.Code, r.Result.Reason, r.Result.Message)
				for _, cause := range r.Result.Details.Causes {
					if cause.Field != "" {
						got += "; cause " + cause.Field
					}
				}
			}
			if diff := cmp.Diff(c.want, strings.Join(append([]string{got}, r.Warnings...), "; ")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestReviewAsks(t *testing.T) {
	r := &reviewer{}
	review(t, r, "IPAddressPool", "ipaddresspools", "UPDATE", poolJSON, strings.Replace(poolJSON, "/28", "/29", 1))
	if q := r.asked; q.Operation != admission.Update || q.OldPool == nil || q.NewPool == nil || q.OldPool.Parsed.Ranges[0].To != addr("192.0.2.15") || q.NewPool.Object.Spec.Addresses[0] != "192.0.2.0/29" {
		t.Errorf("asked %+v", q)
	}
	review(t, r, "L2Advertisement", "l2advertisements", "CREATE", "", `{"metadata":{"name":"a"},"spec":{"ipAddressPools":["p"]}}`)
	if q := r.asked; q.OldAdvertisement != nil || q.NewAdvertisement == nil || q.NewAdvertisement.Spec.IPAddressPools[0] != "p" {
		t.Errorf("asked %+v", q)
	}
	review(t, r, "Other", "others", "CREATE", "", `{}`)
	if diff := cmp.Diff(admission.Request{Operation: admission.Create}, r.asked); diff != "" {
		t.Errorf("another kind: -want +got:\n%s", diff)
	}
}

type panicking struct{}

func (panicking) Review(context.Context, admission.Request) (admission.Decision, error) {
	panic("test")
}

// A panic must not become an answer: that would be a refusal.
func TestPanicIsNoAnswer(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("the panic was caught, so that the API server gets an answer")
		}
	}()
	review(t, panicking{}, "IPAddressPool", "ipaddresspools", "CREATE", "", poolJSON)
}

// flaky cannot listen a few times.
type flaky struct {
	webhook.Server
	failures int
	served   atomic.Bool
}

func (f *flaky) Start(ctx context.Context) error {
	if f.failures--; f.failures >= 0 {
		return errors.New("address already in use")
	}
	f.served.Store(true)
	<-ctx.Done()
	return nil
}

func TestListeningIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		server := &flaky{failures: 3}
		done := make(chan error)
		go func() { done <- (&patientServer{logr.Discard(), server}).Start(ctx) }()
		time.Sleep(3*listenPause - time.Nanosecond)
		synctest.Wait()
		if server.served.Load() {
			t.Error("served after two pauses")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !server.served.Load() {
			t.Error("not served after three pauses")
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the end gives %v", err)
		}
	})
}

func testWebhookStore(objects ...client.Object) (*WebhookStore, client.Client, *events.FakeRecorder) {
	c, recorder := newFake(objects...), events.NewFakeRecorder(10)
	return &WebhookStore{live: c, writer: c, events: recorder, secret: client.ObjectKey{Namespace: home, Name: WebhookSecret}, name: "w"}, c, recorder
}

func TestWebhookStoreSecret(t *testing.T) {
	ctx := t.Context()
	s, c, _ := testWebhookStore()
	if data, version, err := s.Secret(ctx); err != nil || data != nil || version != "" {
		t.Fatalf("a Secret out of nothing: %v, %q, %v", data, version, err)
	}
	first := map[string][]byte{"a": []byte("1"), "b": []byte("2")}
	if err := s.WriteSecret(ctx, "", nil, first); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteSecret(ctx, "", nil, first); !IsConflict(err) {
		t.Errorf("a second creation gives %v, want a conflict", err)
	}
	_, version, err := s.Secret(ctx)
	if err != nil {
		t.Fatal(err)
	}
	second := map[string][]byte{"a": []byte("3"), "c": {}}
	if err := s.WriteSecret(ctx, version, first, second); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteSecret(ctx, version, first, first); !IsConflict(err) {
		t.Errorf("a write on an old version gives %v, want a conflict", err)
	}
	var got corev1.Secret
	if err := c.Get(ctx, s.secret, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(second, got.Data); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWebhookStoreConfig(t *testing.T) {
	ctx := t.Context()
	s, c, recorder := testWebhookStore()
	if _, err := s.Config(ctx); err == nil || IsConflict(err) || !strings.Contains(err.Error(), "ValidatingWebhookConfiguration w") {
		t.Errorf("no configuration gives %v", err)
	}
	s.Warn(ctx, "nowhere to say it")
	hook := func(name string) admissionregistrationv1.ValidatingWebhook {
		return admissionregistrationv1.ValidatingWebhook{Name: name, ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: ptr("https://x")}}
	}
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "w"}, Webhooks: []admissionregistrationv1.ValidatingWebhook{hook("a"), hook("b")}}
	if err := c.Create(ctx, config); err != nil {
		t.Fatal(err)
	}
	read, err := s.Config(ctx)
	if err != nil || read.Trusts([]byte("ca")) {
		t.Fatalf("a new configuration trusts somebody: %+v, %v", read, err)
	}
	if err := s.WriteBundle(ctx, read, []byte("ca")); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteBundle(ctx, read, []byte("old")); !IsConflict(err) {
		t.Errorf("a write on an old version gives %v, want a conflict", err)
	}
	if read, err = s.Config(ctx); err != nil || !read.Trusts([]byte("ca")) || read.Trusts([]byte("old")) {
		t.Errorf("the bundle is not there: %+v, %v", read, err)
	}
	s.Warn(ctx, "say it here")
	if diff := cmp.Diff([]string{"Warning WebhookNotReady say it here"}, recorded(recorder)); diff != "" {
		t.Errorf("events: -want +got:\n%s", diff)
	}
}
