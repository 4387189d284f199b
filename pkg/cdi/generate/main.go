// Program generate edits the definitions that controller-gen has made of CDI's Go types, in
// the folder that its only argument names: those that Gild does not ship are deleted, the
// others get our label, columns, descriptions and rules.
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/cdi"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: generate FOLDER")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

// run edits the definitions in folder.
func run(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return fmt.Errorf("finding the definitions: %w", err)
	}
	editions := editions()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading a definition: %w", err)
		}
		definition := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(data, definition); err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		edits, shipped := editions[definition.Name]
		if !shipped {
			if err := os.Remove(file); err != nil {
				return fmt.Errorf("deleting a definition: %w", err)
			}
			continue
		}
		if err := edit(definition, edits); err != nil {
			return fmt.Errorf("editing %s: %w", file, err)
		}
		if err := write(file, definition); err != nil {
			return err
		}
		delete(editions, definition.Name)
	}
	for name := range editions {
		return fmt.Errorf("editing %s: controller-gen has not made it", name)
	}
	return nil
}

// edition is what makes a definition of CDI's types one of ours.
type edition struct {
	columns []apiextensionsv1.CustomResourceColumnDefinition
	changes []change
}

// editions holds the edition of each definition that Gild ships, by name.
func editions() map[string]edition {
	return map[string]edition{
		cdi.CronDefinition:    {cronColumns(), append(cronWords(), cronRules()...)},
		cdi.SourceDefinition:  {sourceColumns(), append(sourceWords(), sourceRules()...)},
		cdi.ProfileDefinition: {nil, profileWords()},
		cdi.VolumeDefinition:  {nil, append(volumeKindWords(), volumeKindRules()...)},
		cdi.ConfigDefinition:  {nil, configWords()},
		cdi.InstallDefinition: {nil, installWords()},
	}
}

// edit makes a definition ours.
func edit(definition *apiextensionsv1.CustomResourceDefinition, e edition) error {
	definition.Labels = map[string]string{"app.kubernetes.io/name": "gild", cdi.LabelOwned: "true"}
	version := &definition.Spec.Versions[0]
	if e.columns != nil {
		version.AdditionalPrinterColumns = e.columns
	}
	for _, c := range e.changes {
		if err := c.apply(version.Schema.OpenAPIV3Schema); err != nil {
			return err
		}
	}
	return nil
}

// write writes a definition without its status, which is the API server's.
func write(file string, definition *apiextensionsv1.CustomResourceDefinition) error {
	data, err := yaml.Marshal(struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              apiextensionsv1.CustomResourceDefinitionSpec `json:"spec"`
	}{definition.TypeMeta, definition.ObjectMeta, definition.Spec})
	if err != nil {
		return fmt.Errorf("formatting %s: %w", file, err)
	}
	if err := os.WriteFile(file, append([]byte("---\n"), data...), 0o644); err != nil {
		return fmt.Errorf("writing a definition: %w", err)
	}
	return nil
}
