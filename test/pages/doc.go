// Package pages reads the fenced blocks of Markdown pages, so that tests can run the commands that the documentation shows. Its own
// test holds every page to the marks; test/e2e TestPages runs what is marked:
//
//	```sh                    a script, run as it stands
//	```sh not run: REASON    a script that a test cannot run
//	```console               lines that begin with "$ " are run, the others are what they may print
//	```text, ```yaml, ...    no commands
package pages
