{{/* Names, labels and images. Components of a release are `<release>-<component>`. */}}

{{- define "rallypoint.fullname" -}}
{{- if contains "rallypoint" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-rallypoint" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* The name of a component: (list $ "gateway"). */}}
{{- define "rallypoint.name" -}}
{{- $root := index . 0 -}}
{{ include "rallypoint.fullname" $root }}-{{ index . 1 }}
{{- end }}

{{/* What never changes of a component's labels. */}}
{{- define "rallypoint.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: rallypoint
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "rallypoint.labels" -}}
{{- $root := index . 0 -}}
{{ include "rallypoint.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: rallypoint
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{- define "rallypoint.image" -}}
{{ .Values.image.registry }}/{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "rallypoint.probeImage" -}}
{{ .Values.image.registry }}/{{ .Values.image.probeRepository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "rallypoint.secret" -}}
{{ .Values.secrets.existing | default (include "rallypoint.name" (list . "keys")) }}
{{- end }}

{{- define "rallypoint.tlsSecret" -}}
{{ if eq .Values.tls.mode "existing" }}{{ .Values.tls.existing }}{{ else }}{{ include "rallypoint.name" (list . "tls") }}{{ end }}
{{- end }}

{{- define "rallypoint.natsUrl" -}}
{{- if .Values.nats.bundled -}}
{{- $name := include "rallypoint.name" (list . "nats") -}}
{{- $urls := list -}}
{{- range $i := until (int .Values.nats.replicas) }}{{ $urls = append $urls (printf "nats://%s-%d.%s-peers:4222" $name $i $name) }}{{ end -}}
{{ join "," $urls }}
{{- else }}{{ required "nats.external.url: set it, or nats.bundled" .Values.nats.external.url }}{{ end }}
{{- end }}

{{- define "rallypoint.redisUrl" -}}
{{- if .Values.redis.bundled }}redis://{{ include "rallypoint.name" (list . "redis") }}:6379/0
{{- else }}{{ required "redis.external.url: set it, or redis.bundled" .Values.redis.external.url }}{{ end }}
{{- end }}

{{- define "rallypoint.natsReplicas" -}}
{{ if .Values.nats.bundled }}{{ .Values.nats.replicas }}{{ else }}{{ .Values.nats.external.replicas }}{{ end }}
{{- end }}

{{- /* An address as host:port, without scheme and path: (list "http://host/" 4317), where 4317 is the usual port. */}}
{{- define "rallypoint.address" -}}
{{- $host := regexReplaceAll "^[a-z]+://([^/]*@)?" (index . 0) "" | splitList "/" | first -}}
{{ regexMatch ":[0-9]+$" $host | ternary $host (printf "%s:%v" $host (index . 1)) }}
{{- end }}

{{- /* Where services send traces, metrics and logs; empty: nowhere. */}}
{{- define "rallypoint.otlpEndpoint" -}}
{{- $given := .Values.monitoring.otlpEndpoint -}}
{{- if and $given .Values.monitoring.collector.enabled -}}
{{- fail "monitoring.otlpEndpoint and monitoring.collector: services send to one of them; the collector's own way on is its backend" -}}
{{- else if .Values.monitoring.collector.enabled -}}
{{ include "rallypoint.name" (list . "collector") }}:4317
{{- else if $given -}}
{{ include "rallypoint.address" (list $given 4317) }}
{{- end }}
{{- end }}

{{- /* Where KEDA finds fleet; the certificate has this name too, since KEDA verifies it. */}}
{{- define "rallypoint.fleetHost" -}}
{{- include "rallypoint.name" (list . "fleet") }}.{{ .Release.Namespace }}.svc
{{- end }}
