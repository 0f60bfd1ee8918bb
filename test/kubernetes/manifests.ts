/** Workloads of these tests, as manifests in YAML. */
import { stringify } from 'yaml'

export interface DeploymentDraft {
  readonly name: string
  readonly replicas: number
  readonly image: string
  /** A script for the container's shell. */
  readonly script: string
  /** Of the pods, beside their containers. */
  readonly pod?: Readonly<Record<string, unknown>>
  /** Of the container, beside its name, image and command. */
  readonly container?: Readonly<Record<string, unknown>>
}

/** A Deployment with the label `app: NAME`. */
export const makeDeployment = ({ name, replicas, image, script, pod, container }: DeploymentDraft): string =>
  stringify({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: { metadata: { labels: { app: name } }, spec: { ...pod, containers: [{ name, image, command: ['sh', '-c', script], ...container }] } },
    },
  })

/** One whose pods answer with their names on port 80 of a Service. */
export const makeWebsite = ({ name, replicas, image, pod, greeting }: Pick<DeploymentDraft, 'name' | 'replicas' | 'image' | 'pod'> & { /** A line that it prints when it starts. */ readonly greeting?: string }): string =>
  [
    makeDeployment({
      name, replicas, image,
      script: ['mkdir /www', 'hostname >/www/index.html', ...(greeting === undefined ? [] : [`echo ${greeting}`]), 'exec httpd -f -p 8080 -h /www'].join(' && '),
      pod: { terminationGracePeriodSeconds: 1, ...pod },
      container: { readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 } },
    }),
    stringify({ apiVersion: 'v1', kind: 'Service', metadata: { name }, spec: { selector: { app: name }, ports: [{ port: 80, targetPort: 8080 }] } }),
  ].join('---\n')
