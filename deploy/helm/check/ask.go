package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// levels are namespaces that enforce the pod security level that they are named after.
var levels = []string{"restricted", "baseline", "privileged"}

// asked is an apiserver.
type asked struct {
	version string
	typed   *kubernetes.Clientset
	dynamic dynamic.Interface
	mapper  func(*unstructured.Unstructured) (dynamic.NamespaceableResourceInterface, error)
	warned  *[]string
}

// HandleWarningHeader keeps what the apiserver warns of.
func (a asked) HandleWarningHeader(_ int, _, text string) { *a.warned = append(*a.warned, text) }

var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict}

func newAsked(ctx context.Context, config *rest.Config) (a *asked, err error) {
	a = &asked{warned: new([]string)}
	config.WarningHandler = a
	if a.typed, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if a.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	// The apiserver itself knows its version only from a build of Kubernetes' own.
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "k8s.io/kubernetes" {
				a.version = module.Version
			}
		}
	}
	groups, err := restmapper.GetAPIGroupResources(a.typed.Discovery())
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	a.mapper = func(object *unstructured.Unstructured) (dynamic.NamespaceableResourceInterface, error) {
		kind := object.GroupVersionKind()
		m, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return nil, err
		}
		return a.dynamic.Resource(m.Resource), nil
	}
	for _, level := range levels {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: level, Labels: map[string]string{"pod-security.kubernetes.io/enforce": level}}}
		// What a controller manager would make, which is not here.
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
		if _, err := a.typed.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
		if _, err := a.typed.CoreV1().ServiceAccounts(level).Create(ctx, account, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// dryRun asks whether an object would be taken, and its pods as values.yaml says: those that use their node in a
// namespace for the privileged alone, all others in a restricted one.
func (a *asked) dryRun(ctx context.Context, object *unstructured.Unstructured) error {
	what := object.GetKind() + " " + object.GetName()
	resource, err := a.mapper(object)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	*a.warned = nil
	pods, err := template(object)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	takes := levels
	if pods != nil && pods.Spec.HostNetwork {
		takes = []string{"privileged"}
	}
	if _, err := resource.Namespace(takes[0]).Create(ctx, object, dryRun); err != nil {
		return err
	}
	if pods != nil {
		for _, level := range levels {
			pod := &corev1.Pod{ObjectMeta: *pods.ObjectMeta.DeepCopy(), Spec: *pods.Spec.DeepCopy()}
			pod.Name = object.GetName()
			_, err := a.typed.CoreV1().Pods(level).Create(ctx, pod, dryRun)
			switch taken := strings.Contains(strings.Join(takes, " "), level); {
			case taken && err != nil:
				return fmt.Errorf("%s: its pod: %w", what, err)
			case !taken && err == nil:
				return fmt.Errorf("%s: its pod is taken in a %s namespace, so values.yaml says too much", what, level)
			case !taken && !apierrors.IsForbidden(err):
				return fmt.Errorf("%s: its pod: %w", what, err)
			}
		}
	}
	if len(*a.warned) > 0 {
		return errors.New(what + ": the apiserver warns: " + strings.Join(*a.warned, "; "))
	}
	return nil
}
