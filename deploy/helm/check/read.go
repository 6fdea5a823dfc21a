package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// read gives the objects of a file.
func read(file string) (objects []*unstructured.Unstructured, err error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	for documents := yaml.NewYAMLOrJSONDecoder(bufio.NewReader(in), 4096); ; {
		object := &unstructured.Unstructured{}
		switch err := documents.Decode(&object.Object); {
		case errors.Is(err, io.EOF) && len(objects) == 0:
			return nil, errors.New("there is nothing in it: helm template has failed")
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, err
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// template is that of an object's pods; nil if it has none.
func template(object *unstructured.Unstructured) (*corev1.PodTemplateSpec, error) {
	switch object.GetKind() {
	case "Deployment":
		var d appsv1.Deployment
		err := as(object, &d)
		return &d.Spec.Template, err
	case "DaemonSet":
		var d appsv1.DaemonSet
		err := as(object, &d)
		return &d.Spec.Template, err
	}
	return nil, nil
}

func as(object *unstructured.Unstructured, typed any) error {
	return runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, typed)
}

// sound sees to what objects say of each other, which no apiserver looks at.
func sound(objects []*unstructured.Unstructured) error {
	var pods []*corev1.PodTemplateSpec
	for _, object := range objects {
		pod, err := template(object)
		if err == nil && pod != nil {
			err = probes(&pod.Spec)
			pods = append(pods, pod)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	for _, object := range objects {
		var s labels.Selector
		var ports []corev1.ServicePort
		var err error
		switch object.GetKind() {
		case "Service":
			var service corev1.Service
			err = as(object, &service)
			s, ports = labels.SelectorFromSet(service.Spec.Selector), service.Spec.Ports
		case "PodDisruptionBudget":
			var budget policyv1.PodDisruptionBudget
			if err = as(object, &budget); err == nil {
				s, err = metav1.LabelSelectorAsSelector(budget.Spec.Selector)
			}
		default:
			continue
		}
		if err == nil {
			err = selects(s, ports, pods)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

// selects sees that a selector selects pods of one role, which have the ports that a service leads to.
func selects(s labels.Selector, ports []corev1.ServicePort, pods []*corev1.PodTemplateSpec) error {
	roles := 0
	for _, pod := range pods {
		if !s.Matches(labels.Set(pod.Labels)) {
			continue
		}
		roles++
		has := map[string]bool{}
		for _, c := range pod.Spec.Containers {
			for name := range names(c) {
				has[name] = true
			}
		}
		for _, p := range ports {
			if !has[p.TargetPort.StrVal] {
				return fmt.Errorf("it leads to the port %s, which the pods have not", p.TargetPort.String())
			}
		}
	}
	if roles != 1 {
		return fmt.Errorf("it selects the pods of %d roles", roles)
	}
	return nil
}

func names(c corev1.Container) map[string]bool {
	has := map[string]bool{}
	for _, p := range c.Ports {
		has[p.Name] = true
	}
	return has
}

// probes sees that probes are of ports that their containers have.
func probes(spec *corev1.PodSpec) error {
	for _, c := range spec.Containers {
		has := names(c)
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			switch {
			case probe == nil:
			case probe.HTTPGet != nil && !has[probe.HTTPGet.Port.StrVal], probe.TCPSocket != nil && !has[probe.TCPSocket.Port.StrVal]:
				return fmt.Errorf("container %s has a probe of a port that it has not", c.Name)
			}
		}
	}
	return nil
}
