// Package monitoring holds what the chart gives to Prometheus against Prometheus' own code: its test parses every expression of the
// alerts and of the dashboard. It is a module of its own, so that nothing of Prometheus and its operator gets into Fairlead's builds.
// The versions that it requires are also those whose CRDs test/e2e TestMonitoringObjects applies.
package monitoring
