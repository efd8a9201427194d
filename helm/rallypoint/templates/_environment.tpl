{{/* Settings as environment variables; a container's own come last and win. */}}

{{/* One that is the same for all services: (dict "root" $ "component" "fleet"). */}}
{{- define "rallypoint.environment" -}}
{{- $root := .root }}{{ $values := $root.Values }}
- {name: RALLYPOINT_ENVIRONMENT, value: {{ $values.environment | quote }}}
- {name: RALLYPOINT_LOG_LEVEL, value: {{ $values.logLevel | quote }}}
- {name: RALLYPOINT_GRPC_HOST, value: "0.0.0.0"}
- {name: RALLYPOINT_METRICS_HOST, value: "0.0.0.0"}
- {name: RALLYPOINT_DRAIN_S, value: {{ .own.drainSeconds | quote }}}
- {name: RALLYPOINT_NATS_URL, value: {{ include "rallypoint.natsUrl" $root | quote }}}
- {name: RALLYPOINT_NATS_REPLICAS, value: {{ include "rallypoint.natsReplicas" $root | quote }}}
- {name: RALLYPOINT_REDIS_URL, value: {{ include "rallypoint.redisUrl" $root | quote }}}
{{- if or $values.nats.bundled $values.nats.external.user }}
- {name: RALLYPOINT_NATS_USER, value: {{ $values.nats.bundled | ternary "rallypoint" $values.nats.external.user | quote }}}
- name: RALLYPOINT_NATS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "rallypoint.secret" $root }}, key: nats-password}}
{{- end }}
{{- if and (ne .component "rooms") (or $values.redis.bundled $values.redis.external.user) }}
{{- if not $values.redis.bundled }}
- {name: RALLYPOINT_REDIS_USER, value: {{ $values.redis.external.user | quote }}}
{{- end }}
- name: RALLYPOINT_REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "rallypoint.secret" $root }}, key: redis-password}}
{{- end }}
{{- range $folder := include "rallypoint.brokerSecrets" . | fromYaml | keys | sortAlpha }}
{{- $broker := splitList "-" $folder | first | upper }}
{{- if hasSuffix "-ca" $folder }}
- {name: RALLYPOINT_{{ $broker }}_CA_FILE, value: /etc/rallypoint/{{ $folder }}/ca.crt}
{{- else }}
- {name: RALLYPOINT_{{ $broker }}_CERT_FILE, value: /etc/rallypoint/{{ $folder }}/tls.crt}
- {name: RALLYPOINT_{{ $broker }}_KEY_FILE, value: /etc/rallypoint/{{ $folder }}/tls.key}
{{- end }}
{{- end }}
{{- with include "rallypoint.otlpEndpoint" $root }}
- {name: RALLYPOINT_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- if ne $values.tls.mode "none" }}
- {name: RALLYPOINT_GRPC_CA_FILE, value: /etc/rallypoint/tls/ca.crt}
- {name: RALLYPOINT_GRPC_CERT_FILE, value: /etc/rallypoint/tls/tls.crt}
- {name: RALLYPOINT_GRPC_KEY_FILE, value: /etc/rallypoint/tls/tls.key}
- {name: RALLYPOINT_GRPC_SERVER_NAME, value: rallypoint}
{{- end }}
{{- range $name, $value := merge (dict) .own.settings $values.settings }}
- {name: RALLYPOINT_{{ $name }}, value: {{ include "rallypoint.setting" $value | quote }}}
{{- end }}
{{- end }}

{{/* The Secrets by which a component and the external brokers know each other, by the folders they are put in. */}}
{{- define "rallypoint.brokerSecrets" -}}
{{- $callers := dict "redis" (list "gateway" "matchmaking" "fleet" "operator") }}
{{- $_ := set $callers "nats" (append $callers.redis "rooms") }}
{{- range $broker, $its := $callers }}
{{- $given := index $.root.Values $broker }}
{{- if and (not $given.bundled) (has $.component $its) }}
{{- with $given.external.caSecret }}
{{ $broker }}-ca: {{ . }}
{{- end }}
{{- with $given.external.certSecret }}
{{ $broker }}-cert: {{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A number as it was written: Helm's are floats, and a million would be 1e+06. */}}
{{- define "rallypoint.setting" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}
