{{/* With (context, role, its values): the parts that the pods of all roles share. */}}
{{- define "zerogate.podMetadata" -}}
{{- $root := index . 0 -}}{{- $role := index . 1 -}}{{- $values := index . 2 -}}
labels:
  {{- include "zerogate.roleLabels" (list $root $role) | nindent 2 }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "zerogate.podSpec" -}}
{{- $root := index . 0 -}}{{- $role := index . 1 -}}{{- $values := index . 2 -}}
serviceAccountName: {{ $root.Release.Name }}-{{ $role }}
automountServiceAccountToken: true
# variables of a Service called zerogate-… would look like settings
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.priorityClass.name }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- if not (kindIs "invalid" $root.Values.runAsUser) }}
  runAsUser: {{ int64 $root.Values.runAsUser }}
  runAsGroup: {{ int64 $root.Values.runAsUser }}
  fsGroup: {{ int64 $root.Values.runAsUser }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
affinity:
  {{- if $values.affinity }}
  {{- toYaml $values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "zerogate.selector" (list $root $role) | nindent 14 }}
      - weight: 50
        podAffinityTerm:
          topologyKey: topology.kubernetes.io/zone
          labelSelector:
            matchLabels:
              {{- include "zerogate.selector" (list $root $role) | nindent 14 }}
  {{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "zerogate.container" -}}
{{- $root := index . 0 -}}{{- $role := index . 1 -}}{{- $values := index . 2 -}}
name: {{ $role }}
image: {{ include "zerogate.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  readOnlyRootFilesystem: true
resources:
  {{- toYaml $values.resources | nindent 2 }}
# nothing is killed for starting slowly: on a busy node that may take more than a minute, and would begin anew
startupProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 300
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
# only what hangs for a minute: a restart cuts every stream
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{- define "zerogate.podNames" -}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end -}}

{{/* A token that is good for reports alone, the authority that vouches for autoscalers, and where they are. */}}
{{- define "zerogate.tokenVolume" -}}
- name: token
  projected:
    sources:
      - serviceAccountToken: {audience: zerogate-stats, expirationSeconds: 3600, path: token}
      # without its key. An autoscaler makes it; pods that come before that wait, instead of reporting to nobody for a minute
      - secret: {name: {{ include "zerogate.certificate" . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end -}}
{{- define "zerogate.statsProofs" -}}
- {name: ZEROGATE_STATS_TOKEN_FILE, value: /var/run/secrets/zerogate.dev/token}
- {name: ZEROGATE_STATS_CA_FILE, value: /var/run/secrets/zerogate.dev/ca.crt}
{{- end -}}
{{/* Kinds beside Deployment and StatefulSet, for each process that looks at workloads. */}}
{{- define "zerogate.kinds" -}}
{{- with .Values.extraWorkloads }}
{{- $kinds := list }}
{{- range . }}{{- $kinds = append $kinds (printf "%s.%s/%s" .kind .group .version) }}{{- end }}
- {name: ZEROGATE_KINDS, value: {{ join "," $kinds | quote }}}
{{- end }}
{{- end -}}
{{- define "zerogate.tokenMount" -}}
- {name: token, mountPath: /var/run/secrets/zerogate.dev, readOnly: true}
{{- end -}}
