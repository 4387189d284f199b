package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A recipe is what a Dockerfile of the subset says: an image from scratch, its layers
// in order, and how it runs.
type recipe struct {
	layers     []layer
	user       string
	env        []string
	entrypoint []string
	cmd        []string
}

// A layer is one ADD or COPY. An ADD unpacks a tar file at the root; a COPY puts one
// file at an absolute path.
type layer struct {
	instruction string // as written, for the image's history
	unpack      bool
	source      string // a path inside the build context
	target      string // an absolute path in the image
}

// parse reads a Dockerfile. It accepts the instructions whose meaning is the same with
// and without Docker and refuses everything else, so that the two ways to build an
// image cannot drift apart: FROM scratch first, ADD of a tar file to /, COPY of one
// file to one absolute path, USER, ENV with one NAME=VALUE, ENTRYPOINT and CMD as JSON
// lists.
func parse(r io.Reader) (recipe, error) {
	var out recipe
	from := false
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		word, rest, _ := strings.Cut(text, " ")
		if !from && (word != "FROM" || strings.TrimSpace(rest) != "scratch") {
			return recipe{}, fmt.Errorf("line %d: the first instruction must be FROM scratch, got %q", n, text)
		}
		if from {
			if err := out.apply(word, strings.TrimSpace(rest)); err != nil {
				return recipe{}, fmt.Errorf("line %d: %s: %w", n, word, err)
			}
		}
		from = true
	}
	if err := lines.Err(); err != nil {
		return recipe{}, err
	}
	if len(out.layers) == 0 {
		return recipe{}, errors.New("no layer: at least one ADD or COPY is needed")
	}
	return out, nil
}

func (r *recipe) apply(word, rest string) error {
	if strings.ContainsAny(rest, `$\`) {
		return errors.New("variables and continued lines are not supported")
	}
	switch word {
	case "ADD", "COPY":
		l, err := parseLayer(word, rest)
		if err != nil {
			return err
		}
		r.layers = append(r.layers, l)
	case "USER":
		if rest == "" || strings.ContainsAny(rest, " \t") {
			return fmt.Errorf("want one user, got %q", rest)
		}
		r.user = rest
	case "ENV":
		name, _, ok := strings.Cut(rest, "=")
		if !ok || name == "" || strings.ContainsAny(rest, " \t\"'") {
			return fmt.Errorf("want one NAME=VALUE without spaces or quotes, got %q", rest)
		}
		r.env = append(r.env, rest)
	case "ENTRYPOINT":
		return parseList(rest, &r.entrypoint)
	case "CMD":
		return parseList(rest, &r.cmd)
	default:
		return errors.New("this instruction is not supported without Docker")
	}
	return nil
}

func parseList(rest string, out *[]string) error {
	if err := json.Unmarshal([]byte(rest), out); err != nil || len(*out) == 0 {
		return fmt.Errorf("want a JSON list of words, got %q", rest)
	}
	return nil
}

func parseLayer(word, rest string) (layer, error) {
	words := strings.Fields(rest)
	if len(words) != 2 || strings.HasPrefix(words[0], "-") || strings.ContainsAny(rest, `*?["`) {
		return layer{}, fmt.Errorf("want one source and one target, without options or patterns, got %q", rest)
	}
	l := layer{instruction: word + " " + rest, unpack: word == "ADD", source: words[0], target: words[1]}
	if l.unpack && (l.target != "/" || !strings.HasSuffix(l.source, ".tar")) {
		return layer{}, fmt.Errorf("want a .tar file and the target /, got %q", rest)
	}
	if !l.unpack && (!strings.HasPrefix(l.target, "/") || strings.HasSuffix(l.target, "/")) {
		return layer{}, fmt.Errorf("want an absolute path of a file as the target, got %q", l.target)
	}
	return l, nil
}
