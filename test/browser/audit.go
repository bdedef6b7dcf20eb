package browser

import (
	"context"
	_ "embed"
	"fmt"
)

//go:embed audit.js
var audit string

// Audit returns what is wrong with the page that is open: controls, images, tables and sections without a name, headings out of order,
// identifiers that are there twice, text whose contrast to what is behind it is below 4.5, or below 3 if it is large (WCAG 2.2,
// 1.4.3), and a page that is wider than the window.
func (b *Browser) Audit(ctx context.Context) ([]string, error) {
	var out []string
	err := b.Eval(ctx, fmt.Sprintf("(%s)(%d)", audit, b.width), &out)
	return out, err
}
