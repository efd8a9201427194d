{{/*
The one template of every workload. Its argument is a dict:
  root, component        the chart and the component's name
  own                    the component's block of values
  kind                   Deployment, StatefulSet or DaemonSet
  args, env, ports       of the container; env and ports as YAML text
  mounts, volumes        more of them, as YAML text
  image                  if it is not ours
  grace                  seconds until the kubelet kills
  optional: command, name, namespace, account, serviceName, claims, probes, lifecycle, checksum, tls, podSecurity, security
*/}}
{{- define "rallypoint.workload" -}}
apiVersion: apps/v1
kind: {{ .kind }}
metadata:
  name: {{ .name | default (include "rallypoint.name" (list .root .component)) }}
  namespace: {{ .namespace | default .root.Release.Namespace }}
  labels: {{- include "rallypoint.labels" (list .root .component) | nindent 4 }}
spec:
  {{- if ne .kind "DaemonSet" }}
  {{- if or (not .own.autoscaling) (eq (dig "autoscaling" "kind" "none" .own) "none") }}
  replicas: {{ .own.replicas }}
  {{- end }}
  {{- end }}
  revisionHistoryLimit: 5
  selector:
    matchLabels: {{- include "rallypoint.selector" (list .root .component) | nindent 6 }}
  {{- if eq .kind "StatefulSet" }}
  serviceName: {{ .serviceName }}
  podManagementPolicy: Parallel
  {{- else if eq .kind "Deployment" }}
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  {{- /* Proxies, load balancers and policies of the network hear of a new pod a little later than its kubelet. */}}
  minReadySeconds: 3
  {{- end }}
  template: {{- include "rallypoint.pod" . | nindent 4 }}
  {{- with .claims }}
  volumeClaimTemplates: {{- . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* The pod of a workload: also what a GameServerSet makes servers of. */}}
{{- define "rallypoint.pod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- /* Without the versions of chart and program: those alone would restart a pod. */}}
    {{- include "rallypoint.selector" (list $root .component) | nindent 4 }}
    app.kubernetes.io/part-of: rallypoint
    {{- with .own.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- if or .own.podAnnotations .checksum }}
  annotations:
    {{- with .checksum }}
    rallypoint.dev/configuration: {{ . }}
    {{- end }}
    {{- with .own.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- end }}
spec:
  serviceAccountName: {{ .account | default (include "rallypoint.fullname" $root) }}
  automountServiceAccountToken: {{ not (empty .account) }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .grace | default (add (int .own.drainSeconds) 15) }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets: {{- range . }}
    - name: {{ . }}
  {{- end }}
  {{- end }}
  {{- with .own.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- with .podSecurity }}{{ . | nindent 4 }}{{ else }}
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    {{- end }}
    seccompProfile: {type: RuntimeDefault}
  {{- with .own.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .own.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .own.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if ne .kind "DaemonSet" }}
  topologySpreadConstraints:
    {{- range $key, $skew := dict "kubernetes.io/hostname" 1 "topology.kubernetes.io/zone" 1 }}
    - topologyKey: {{ $key }}
      maxSkew: {{ $skew }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "rallypoint.selector" (list $root $.component) | nindent 10 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ .image | default (include "rallypoint.image" $root) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      {{- with .command }}
      command: {{- toYaml . | nindent 8 }}
      {{- end }}
      args: {{- toYaml .args | nindent 8 }}
      env: {{- .env | nindent 8 }}
      ports: {{- .ports | nindent 8 }}
      {{- with .probes }}{{ . | nindent 6 }}{{ else }}
      startupProbe: {httpGet: {path: /livez, port: metrics}, periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 60}
      livenessProbe: {httpGet: {path: /livez, port: metrics}, periodSeconds: 5, timeoutSeconds: 3, failureThreshold: 6}
      readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2}
      {{- end }}
      {{- with .lifecycle }}
      lifecycle: {{- . | nindent 8 }}
      {{- end }}
      resources: {{- toYaml .own.resources | nindent 8 }}
      securityContext:
        {{- with .security }}{{ . | nindent 8 }}{{ else }}
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
        {{- end }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if .tls }}
        - {name: tls, mountPath: /etc/rallypoint/tls, readOnly: true}
        {{- end }}
        {{- range $folder, $_ := include "rallypoint.brokerSecrets" . | fromYaml }}
        - {name: {{ $folder }}, mountPath: /etc/rallypoint/{{ $folder }}, readOnly: true}
        {{- end }}
        {{- with .mounts }}{{ . | nindent 8 }}{{ end }}
  volumes:
    - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
    {{- if .tls }}
    - {name: tls, secret: {secretName: {{ include "rallypoint.tlsSecret" $root }}, defaultMode: 0440}}
    {{- end }}
    {{- range $folder, $secret := include "rallypoint.brokerSecrets" . | fromYaml }}
    - {name: {{ $folder }}, secret: {secretName: {{ $secret }}, defaultMode: 0440}}
    {{- end }}
    {{- with .volumes }}{{ . | nindent 4 }}{{ end }}
{{- end }}

{{/* A budget for evictions. */}}
{{- define "rallypoint.budget" -}}
{{- if .own.pdb.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "rallypoint.name" (list .root .component) }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "rallypoint.labels" (list .root .component) | nindent 4 }}
spec:
  maxUnavailable: {{ .own.pdb.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "rallypoint.selector" (list .root .component) | nindent 6 }}
{{- end }}
{{- end }}

{{/* Replicas by CPU, or by CPU and a query to Prometheus. */}}
{{- define "rallypoint.autoscaler" -}}
{{- $scaling := .own.autoscaling }}
{{- $name := include "rallypoint.name" (list .root .component) }}
{{- if eq $scaling.kind "hpa" }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "rallypoint.labels" (list .root .component) | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ $scaling.min }}
  maxReplicas: {{ $scaling.max }}
  behavior: {scaleDown: {stabilizationWindowSeconds: 300}}
  metrics:
    - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ $scaling.cpuPercent }}}}}
{{- else if eq $scaling.kind "keda" }}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "rallypoint.labels" (list .root .component) | nindent 4 }}
spec:
  scaleTargetRef: {name: {{ $name }}}
  minReplicaCount: {{ $scaling.min }}
  maxReplicaCount: {{ $scaling.max }}
  triggers:
    - {type: cpu, metricType: Utilization, metadata: {value: {{ $scaling.cpuPercent | quote }}}}
    {{- if $scaling.prometheus.address }}
    - type: prometheus
      metadata:
        serverAddress: {{ $scaling.prometheus.address | quote }}
        query: {{ $scaling.prometheus.query | quote }}
        threshold: {{ $scaling.prometheus.threshold | quote }}
    {{- end }}
{{- end }}
{{- end }}
