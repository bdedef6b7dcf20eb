{{- define "fairlead.name" -}}
{{- if contains "fairlead" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-fairlead" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "fairlead.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "fairlead.selector" . }}
{{- end }}

{{- define "fairlead.selector" -}}
app.kubernetes.io/name: fairlead
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Beside another proxy an address of ours says that it is not that proxy's. */ -}}
{{- define "fairlead.ipMode" -}}
{{ .Values.datapath.ipMode | default (eq .Values.datapath.mode "external" | ternary "Proxy" "VIP") }}
{{- end }}

{{- define "fairlead.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- /* Nine tenths of a memory limit in Mi or Gi, as Go's GOMEMLIMIT wants it; empty for other limits: with none, Go collects as
usual. The rest is for what Go does not count. */ -}}
{{- define "fairlead.goMemLimit" -}}
{{- $limit := dig "limits" "memory" "" (. | default dict) | toString -}}
{{- if regexMatch "^[0-9]+[MG]i$" $limit -}}
{{- $mebi := regexFind "^[0-9]+" $limit | int -}}
{{- if hasSuffix "Gi" $limit }}{{ $mebi = mul $mebi 1024 }}{{ end -}}
{{ div (mul $mebi 9) 10 }}MiB
{{- end -}}
{{- end }}
