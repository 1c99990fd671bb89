package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
)

// lastPush is how long the push at the end may take.
const lastPush = 5 * time.Second

// Pusher pushes metrics by the OpenTelemetry protocol.
type Pusher struct {
	provider *metric.MeterProvider
}

// NewPusher returns what pushes m to a URL once a minute, until its end, over HTTP, under the name
// of an instance. Variables of the environment that OpenTelemetry knows say the
// rest. A push that fails is logged.
func (m *Metrics) NewPusher(ctx context.Context, url, instance string) (*Pusher, error) {
	exporter, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(url))
	if err != nil {
		return nil, fmt.Errorf("preparing to push metrics: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "tollgate"), attribute.String("service.instance.id", instance)),
		resource.WithHost(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("preparing to push metrics: %w", err)
	}
	reader := metric.NewPeriodicReader(&told{exporter, m.log, false}, metric.WithProducer(prometheus.NewMetricProducer(prometheus.WithGatherer(m.registry))))
	return &Pusher{metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(about))}, nil
}

// End pushes once more, which may take some seconds, also if ctx has ended, and then
// never again.
func (p *Pusher) End(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPush)
	defer cancel()
	if err := p.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("ending to push metrics: %w", err)
	}
	return nil
}

// told is an exporter that tells when it begins to fail and when that is over. The
// reader calls it from one goroutine at a time.
type told struct {
	metric.Exporter
	log     *slog.Logger
	failing bool
}

// Export is that of the exporter, but what fails is told here, and not to the
// process at large.
func (t *told) Export(ctx context.Context, data *metricdata.ResourceMetrics) error {
	err := t.Exporter.Export(ctx, data)
	switch {
	case err != nil && !t.failing:
		t.log.Error("metrics cannot be pushed", "error", err)
	case err == nil && t.failing:
		t.log.Info("metrics are pushed again")
	}
	t.failing = err != nil
	return nil
}
