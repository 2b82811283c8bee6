/** For pages without a bundler: `<script src="leadwire.js">` defines the global `leadwire`. */
import * as leadwire from './index.js';

Object.assign(globalThis, { leadwire });
