// scrapeconfig VERSION PODMONITOR [TARGETS]: prints the configuration that prometheus-operator makes of a PodMonitor for
// a Prometheus of this version, by the operator's own generator. With a file of static_configs these stand in for the
// discovery of pods; all that the operator then does to its labels stays.
package main

import (
	"bytes"
	"fmt"
	"os"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus-operator/prometheus-operator/pkg/assets"
	"github.com/prometheus-operator/prometheus-operator/pkg/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 && len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "scrapeconfig VERSION PODMONITOR [TARGETS]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "scrapeconfig:", err)
		os.Exit(1)
	}
}

func run(version, file string, targets []string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	monitor := &monitoringv1.PodMonitor{}
	// The API server prunes fields that the operator's types do not have; here there may be none.
	if err := yaml.UnmarshalStrict(text, monitor); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	server := &monitoringv1.Prometheus{
		ObjectMeta: metav1.ObjectMeta{Namespace: "monitoring", Name: "lab"},
		Spec: monitoringv1.PrometheusSpec{
			CommonPrometheusFields: monitoringv1.CommonPrometheusFields{Version: version, ScrapeInterval: "1s"},
			// As the definition of the object defaults it.
			EvaluationInterval: "30s",
		},
	}
	generator, err := prometheus.NewConfigGenerator(nil, server)
	if err != nil {
		return err
	}
	monitors := map[string]*monitoringv1.PodMonitor{monitor.Namespace + "/" + monitor.Name: monitor}
	config, err := generator.GenerateServerConfiguration(
		server, nil, monitors, nil, nil, assets.NewTestStoreBuilder(), nil, nil, nil, nil)
	if err != nil {
		return err
	}
	// The operator's reloader writes the number of the shard, of which there is one.
	config = bytes.ReplaceAll(config, []byte("$(SHARD)"), []byte("0"))
	if len(targets) > 0 {
		if config, err = withTargets(config, targets[0]); err != nil {
			return err
		}
	}
	_, err = os.Stdout.Write(config)
	return err
}

// withTargets replaces the discovery of pods by targets that are written down.
func withTargets(config []byte, file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var static []any
	if err := yaml.Unmarshal(text, &static); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	parsed := map[string]any{}
	if err := yaml.Unmarshal(config, &parsed); err != nil {
		return nil, err
	}
	jobs, _ := parsed["scrape_configs"].([]any)
	if len(jobs) != 1 {
		return nil, fmt.Errorf("%d jobs of one PodMonitor", len(jobs))
	}
	job, _ := jobs[0].(map[string]any)
	if _, found := job["kubernetes_sd_configs"]; !found {
		return nil, fmt.Errorf("no discovery of pods in the job: %v", job)
	}
	delete(job, "kubernetes_sd_configs")
	job["static_configs"] = static
	return yaml.Marshal(parsed)
}
