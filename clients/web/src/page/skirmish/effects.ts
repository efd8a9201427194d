// Short-lived pictures: sparks, rings, rising numbers. They never change the game.

interface Spark {
  x: number;
  y: number;
  readonly vx: number;
  readonly vy: number;
  readonly color: string;
  readonly bornMs: number;
  readonly lifeMs: number;
}

interface Ring {
  readonly x: number;
  readonly y: number;
  readonly from: number;
  readonly to: number;
  readonly color: string;
  readonly bornMs: number;
  readonly lifeMs: number;
}

interface Word {
  readonly x: number;
  readonly y: number;
  readonly text: string;
  readonly color: string;
  readonly bornMs: number;
  readonly lifeMs: number;
}

const MOST_SPARKS = 240;

export class Effects {
  readonly #calm: boolean;
  #sparks: Spark[] = [];
  #rings: Ring[] = [];
  #words: Word[] = [];
  #shakeUntilMs = 0;
  /** When one's own player was last hit. */
  hurtMs = Number.NEGATIVE_INFINITY;

  constructor(calm: boolean) {
    this.#calm = calm;
  }

  burst(x: number, y: number, color: string, nowMs: number, count = 12, speed = 220): void {
    if (this.#calm) return;
    for (let at = 0; at < count && this.#sparks.length < MOST_SPARKS; at++) {
      const angle = Math.random() * 2 * Math.PI;
      const pace = speed * (0.3 + Math.random() * 0.7);
      const [vx, vy] = [Math.cos(angle) * pace, Math.sin(angle) * pace];
      this.#sparks.push({ x, y, vx, vy, color, bornMs: nowMs, lifeMs: 260 + Math.random() * 320 });
    }
  }

  ring(x: number, y: number, color: string, nowMs: number, to = 70): void {
    const from = this.#calm ? to : 6;
    this.#rings.push({ x, y, from, to, color, bornMs: nowMs, lifeMs: 480 });
  }

  word(x: number, y: number, text: string, color: string, nowMs: number): void {
    this.#words.push({ x, y, text, color, bornMs: nowMs, lifeMs: 900 });
  }

  hurt(nowMs: number): void {
    this.hurtMs = nowMs;
    if (!this.#calm) this.#shakeUntilMs = nowMs + 180;
  }

  /** How far to shift the picture, in world units. */
  shake(nowMs: number): { readonly x: number; readonly y: number } {
    const left = Math.max(0, this.#shakeUntilMs - nowMs) / 180;
    return { x: (Math.random() - 0.5) * 14 * left, y: (Math.random() - 0.5) * 14 * left };
  }

  draw(pen: CanvasRenderingContext2D, nowMs: number, elapsedMs: number): void {
    this.#sparks = this.#sparks.filter((spark) => nowMs - spark.bornMs < spark.lifeMs);
    this.#rings = this.#rings.filter((ring) => nowMs - ring.bornMs < ring.lifeMs);
    this.#words = this.#words.filter((word) => nowMs - word.bornMs < word.lifeMs);
    pen.save();
    for (const ring of this.#rings) this.#drawRing(pen, ring, nowMs);
    for (const spark of this.#sparks) this.#drawSpark(pen, spark, nowMs, elapsedMs);
    for (const word of this.#words) this.#drawWord(pen, word, nowMs);
    pen.restore();
  }

  #drawRing(pen: CanvasRenderingContext2D, ring: Ring, nowMs: number): void {
    const age = ageOf(ring, nowMs);
    pen.globalAlpha = (1 - age) ** 1.5;
    pen.strokeStyle = ring.color;
    pen.lineWidth = 5 * (1 - age) + 1;
    pen.beginPath();
    pen.arc(ring.x, ring.y, ring.from + (ring.to - ring.from) * (1 - (1 - age) ** 3), 0, 2 * Math.PI);
    pen.stroke();
  }

  #drawSpark(pen: CanvasRenderingContext2D, spark: Spark, nowMs: number, elapsedMs: number): void {
    const age = ageOf(spark, nowMs);
    const slowed = (1 - age) * (elapsedMs / 1000);
    spark.x += spark.vx * slowed;
    spark.y += spark.vy * slowed;
    pen.globalAlpha = 1 - age;
    pen.strokeStyle = spark.color;
    pen.lineWidth = 3 * (1 - age) + 0.5;
    pen.beginPath();
    pen.moveTo(spark.x, spark.y);
    pen.lineTo(spark.x - spark.vx * 0.03 * (1 - age), spark.y - spark.vy * 0.03 * (1 - age));
    pen.stroke();
  }

  #drawWord(pen: CanvasRenderingContext2D, word: Word, nowMs: number): void {
    const age = ageOf(word, nowMs);
    pen.globalAlpha = Math.min(1, (1 - age) * 2);
    pen.fillStyle = word.color;
    pen.font = "700 20px Saira, system-ui, sans-serif";
    pen.textAlign = "center";
    pen.fillText(word.text, word.x, word.y - 30 - (this.#calm ? 0 : 34 * (1 - (1 - age) ** 2)));
  }
}

/** 0 to 1. A picture's time may lie a little before the event that made the effect. */
function ageOf(effect: { readonly bornMs: number; readonly lifeMs: number }, nowMs: number): number {
  return Math.min(1, Math.max(0, (nowMs - effect.bornMs) / effect.lifeMs));
}
