// Command check reads what `helm template` wrote, and refuses what the types of Kubernetes do not know: a field that
// is not there or of another type, and selectors that do not select the pods of their own role. It is no apiserver: quotas,
// admission and defaults it knows nothing of.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func main() {
	n, err := check(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
	fmt.Println(n, "objects are sound")
}

func check(in io.Reader) (n int, err error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return 0, err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var pods []labels.Set
	selectors := map[string]labels.Selector{}
	documents := yaml.NewYAMLReader(bufio.NewReader(in))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return n, err
		}
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		object, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return n, fmt.Errorf("%w\n%s", err, document)
		}
		meta := object.(metav1.Object)
		name := kind.Kind + " " + meta.GetName()
		if wrong := validation.IsDNS1123Subdomain(meta.GetName()); wrong != nil {
			return n, fmt.Errorf("%s: %v", name, wrong)
		}
		switch o := object.(type) {
		case *appsv1.Deployment:
			pods, selectors[name], err = append(pods, o.Spec.Template.Labels), selector(o.Spec.Selector), pod(&o.Spec.Template.Spec)
		case *appsv1.DaemonSet:
			pods, selectors[name], err = append(pods, o.Spec.Template.Labels), selector(o.Spec.Selector), pod(&o.Spec.Template.Spec)
		case *policyv1.PodDisruptionBudget:
			selectors[name] = selector(o.Spec.Selector)
		case *corev1.Service:
			selectors[name] = labels.SelectorFromSet(o.Spec.Selector)
		}
		if err != nil {
			return n, fmt.Errorf("%s: %w", name, err)
		}
		n++
	}
	if n == 0 {
		return 0, errors.New("nothing was read: helm template has failed")
	}
	for name, s := range selectors {
		matches := 0
		for _, p := range pods {
			if s.Matches(p) {
				matches++
			}
		}
		if matches != 1 {
			return n, fmt.Errorf("%s selects the pods of %d roles", name, matches)
		}
	}
	return n, nil
}

func selector(s *metav1.LabelSelector) labels.Selector {
	made, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return made
}

// pod sees that what containers mount is there, and that probes and ports go by the same names.
func pod(spec *corev1.PodSpec) error {
	volumes := map[string]bool{}
	for _, v := range spec.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range spec.Containers {
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				return fmt.Errorf("container %s mounts %s, which the pod has not", c.Name, m.Name)
			}
		}
		ports := map[string]bool{}
		for _, p := range c.Ports {
			if wrong := validation.IsValidPortName(p.Name); wrong != nil {
				return fmt.Errorf("port %s: %v", p.Name, wrong)
			}
			ports[p.Name] = true
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			switch {
			case probe == nil:
			case probe.HTTPGet != nil && !ports[probe.HTTPGet.Port.StrVal], probe.TCPSocket != nil && !ports[probe.TCPSocket.Port.StrVal]:
				return fmt.Errorf("container %s has a probe of a port that it has not", c.Name)
			}
		}
	}
	return nil
}
