package pages

import (
	"fmt"
	"strings"
)

// Block is one fenced block.
type Block struct {
	Line     int    // of the opening fence, from 1
	Language string // first word after the fence, "" = none
	Why      string // what "not run: " says, "" = it is run
	Text     string
}

// notRun is what a block that is not run says after its language.
const notRun = "not run: "

// Blocks returns the fenced blocks of a page in their order. An unclosed fence, and words after the language that are no reason, are errors.
func Blocks(page string) ([]Block, error) {
	var out []Block
	var open *Block
	line := 0
	for text := range strings.Lines(page) {
		line++
		info, fence := strings.CutPrefix(strings.TrimRight(text, "\r\n"), "```")
		switch {
		case open != nil && fence && info == "":
			out, open = append(out, *open), nil
		case open != nil:
			open.Text += text
		case fence:
			language, rest, _ := strings.Cut(info, " ")
			why, ok := strings.CutPrefix(rest, notRun)
			if rest != "" && (!ok || strings.TrimSpace(why) == "") {
				return nil, fmt.Errorf("line %d: want nothing or %q and a reason after %q, got %q", line, notRun, language, rest)
			}
			open = &Block{Line: line, Language: language, Why: why}
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the block has no end", open.Line)
	}
	return out, nil
}

// Script returns what of a block is to be run in a shell, "" if it has no commands.
func (b Block) Script() string {
	switch b.Language {
	case "sh":
		return b.Text
	case "console":
		var out strings.Builder
		for text := range strings.Lines(b.Text) {
			if command, ok := strings.CutPrefix(text, "$ "); ok {
				out.WriteString(command)
			}
		}
		return out.String()
	}
	return ""
}
