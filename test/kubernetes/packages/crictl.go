// A crictl with the commands that kubeadm 1.20 runs: info, pods -q, stopp, rmp, inspecti, pull; and ps and images for people. It is compiled inside the
// source tree of Kubernetes, whose own client of the container runtime interface it uses.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1alpha2"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/cri/remote"
)

const (
	usage          = "usage: crictl [-r ENDPOINT] info | pods [-q] | ps [-q] | images | stopp ID... | rmp ID... | inspecti IMAGE... | pull IMAGE..."
	runtimeTimeout = 2 * time.Minute
	imageTimeout   = 10 * time.Minute
)

func main() {
	klog.SetOutput(os.Stderr)
	endpoint := os.Getenv("CONTAINER_RUNTIME_ENDPOINT")
	if endpoint == "" {
		endpoint = "unix:///run/containerd/containerd.sock"
	}
	global := flag.NewFlagSet("crictl", flag.ExitOnError)
	global.StringVar(&endpoint, "r", endpoint, "endpoint of the runtime")
	global.StringVar(&endpoint, "runtime-endpoint", endpoint, "endpoint of the runtime")
	_ = global.Parse(os.Args[1:])
	if global.NArg() == 0 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	verb := global.Arg(0)
	own := flag.NewFlagSet(verb, flag.ExitOnError)
	quiet := own.Bool("q", false, "only ids")
	own.Bool("a", true, "everything is always listed")
	own.Bool("f", false, "force: there is nothing to be forced")
	_ = own.Parse(global.Args()[1:])
	if err := run(endpoint, verb, own.Args(), *quiet); err != nil {
		fmt.Fprintln(os.Stderr, "crictl:", err)
		os.Exit(1)
	}
}

func run(endpoint, verb string, names []string, quiet bool) error {
	runtime, err := remote.NewRemoteRuntimeService(endpoint, runtimeTimeout)
	if err != nil {
		return err
	}
	images, err := remote.NewRemoteImageService(endpoint, imageTimeout)
	if err != nil {
		return err
	}
	each := func(work func(name string) error) error {
		for _, name := range names {
			if err := work(name); err != nil {
				return err
			}
		}
		return nil
	}
	switch verb {
	case "info":
		status, err := runtime.Status()
		if err != nil {
			return err
		}
		return print(status)
	case "pods":
		pods, err := runtime.ListPodSandbox(nil)
		if err != nil {
			return err
		}
		for _, pod := range pods {
			list(quiet, pod.Id, pod.State, pod.Metadata.Namespace+"/"+pod.Metadata.Name)
		}
		return nil
	case "ps":
		containers, err := runtime.ListContainers(nil)
		if err != nil {
			return err
		}
		for _, container := range containers {
			list(quiet, container.Id, container.State, container.Metadata.Name)
		}
		return nil
	case "images":
		all, err := images.ListImages(nil)
		if err != nil {
			return err
		}
		for _, image := range all {
			list(quiet, image.Id, image.Size_, image.RepoTags)
		}
		return nil
	case "stopp":
		return each(runtime.StopPodSandbox)
	case "rmp":
		return each(runtime.RemovePodSandbox)
	case "inspecti":
		return each(func(name string) error {
			image, err := images.ImageStatus(&runtimeapi.ImageSpec{Image: name})
			if err != nil {
				return err
			}
			if image == nil {
				return fmt.Errorf("no such image %q present", name)
			}
			return print(image)
		})
	case "pull":
		return each(func(name string) error {
			_, err := images.PullImage(&runtimeapi.ImageSpec{Image: name}, nil, nil)
			return err
		})
	}
	return fmt.Errorf("there is no command %q here; %s", verb, usage)
}

func print(value interface{}) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err == nil {
		fmt.Println(string(text))
	}
	return err
}

func list(quiet bool, id string, rest ...interface{}) {
	if quiet {
		fmt.Println(id)
		return
	}
	fmt.Println(append([]interface{}{id}, rest...)...)
}
