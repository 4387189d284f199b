package main

import (
	"fmt"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// change is what is done to one schema in a definition.
type change struct {
	// path of the schema: names of properties with dots between them, and [] for the items of a
	// list. The root has an empty path.
	path string
	do   func(*apiextensionsv1.JSONSchemaProps)
}

// apply makes the change below root.
func (c change) apply(root *apiextensionsv1.JSONSchemaProps) error {
	if err := walk(root, strings.FieldsFunc(c.path, func(r rune) bool { return r == '.' }), c.do); err != nil {
		return fmt.Errorf("finding %s: %w", c.path, err)
	}
	return nil
}

func walk(s *apiextensionsv1.JSONSchemaProps, steps []string, do func(*apiextensionsv1.JSONSchemaProps)) error {
	switch {
	case len(steps) == 0:
		do(s)
		return nil
	case steps[0] == "[]" && s.Items != nil:
		return walk(s.Items.Schema, steps[1:], do)
	}
	property, ok := s.Properties[steps[0]]
	if !ok {
		return fmt.Errorf("there is no %s", steps[0])
	}
	if err := walk(&property, steps[1:], do); err != nil {
		return err
	}
	s.Properties[steps[0]] = property
	return nil
}

// rule refuses objects whose value at path the expression, in CEL, is not true of. The message
// says what to write instead.
func rule(path, expression, message string) change {
	return change{path, func(s *apiextensionsv1.JSONSchemaProps) {
		s.XValidations = append(s.XValidations, apiextensionsv1.ValidationRule{Rule: expression, Message: message})
	}}
}

// longest bounds the text at path, in characters. Rules need it: their cost is estimated.
func longest(path string, characters int64) change {
	return change{path, func(s *apiextensionsv1.JSONSchemaProps) { s.MaxLength = &characters }}
}

// most bounds the list at path.
func most(path string, items int64) change {
	return change{path, func(s *apiextensionsv1.JSONSchemaProps) { s.MaxItems = &items }}
}

// words describes what is at path.
func words(path, description string) change {
	return change{path, func(s *apiextensionsv1.JSONSchemaProps) { s.Description = description }}
}
