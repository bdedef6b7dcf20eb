package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"
	"sigs.k8s.io/yaml"
)

// encode prints v as -o json or -o yaml asks, and reports whether it did.
func (o *options) encode(out io.Writer, v any) (bool, error) {
	var text []byte
	var err error
	switch o.output {
	case "json":
		text, err = json.MarshalIndent(v, "", "  ")
		text = append(text, '\n')
	case "yaml":
		text, err = yaml.Marshal(v)
	default:
		return false, nil
	}
	if err == nil {
		_, err = out.Write(text)
	}
	if err != nil {
		return true, fmt.Errorf("printing: %w", err)
	}
	return true, nil
}

// table prints rows in columns, the first of them the heading.
func table(out io.Writer, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if cell == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

// The colours; all of them mean the same as the word that they colour.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

// paint colours text if it goes to a terminal of somebody who did not ask for none (no-color.org).
func paint(out io.Writer, colour, text string) string {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
